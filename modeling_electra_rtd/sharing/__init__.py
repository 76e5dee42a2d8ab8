"""What leaves the house: releases that stock classes load, and a look at what a model sees."""
