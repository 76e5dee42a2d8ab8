"""Text becomes packed blocks of token ids: documents -> tokens -> blocks -> batches."""
