"""What leaves the house: releases that stock classes load, a pipeline, and a look at what a model sees."""
