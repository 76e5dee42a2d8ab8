"""Commands as a user types them, in this process."""

from modeling_electra_rtd.cli.main import main


MODEL = (
    '{"model_type": "electra", "hidden_size": 32, "intermediate_size": 48, '
    '"num_hidden_layers": 1, "num_attention_heads": 2}'
)


def fails(capsys, *argv: str) -> str:
    """The one line of an error that a user can mend."""
    capsys.readouterr()
    assert main(list(argv)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("electra-rtd")]
    assert len(lines) == 1 and "error: " in lines[0]
    return lines[0]
