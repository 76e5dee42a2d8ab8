"""Foreign checkpoints: the original ELECTRA code's and DeBERTaV3's, into pairs and back."""
