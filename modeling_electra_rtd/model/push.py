"""How a model pushes itself: as a release, where the package is at hand."""

from typing import Any


class PushedAsRelease:
    """Pushes a model as checkpoints that stock classes load, whatever it is in memory."""

    def push_to_hub(self, repo_id: str, *, tokenizer: Any = None, processing_class: Any = None, **arguments: Any):
        """Upload a release in one commit, and read it back: the discriminator at the root, the generator in
        `generator/`, and a model card. What must not be public (secrets, paths, pickles) is refused before anything
        is sent.

        Without the package (this file being remote code) it uploads what `save_pretrained` writes.

        Args:
            repo_id: `OWNER/NAME`, or a name of the account's own.
            tokenizer, processing_class: the tokenizer under either name; goes with each network.
            arguments: `commit_message`, `commit_description`, `private`, `token`, `revision`, `create_pr`,
                `max_shard_size` and `tags`, as of every model in `transformers`.

        Returns:
            The client's `CommitInfo`.

        Raises:
            ValueError: in one line, for what must not be uploaded, and for what the Hub refused or could not do.
        """
        tokenizer = processing_class if tokenizer is None else tokenizer
        try:
            from modeling_electra_rtd.release.from_memory import push_model
        except ModuleNotFoundError:
            info = super().push_to_hub(repo_id, **arguments)
            if tokenizer is not None:
                kept = ("private", "token", "revision", "create_pr")
                tokenizer.push_to_hub(repo_id, **{name: arguments[name] for name in kept if name in arguments})
            return info
        tags = arguments.pop("tags", None) or []
        tags = [*(self.model_tags or []), *([tags] if isinstance(tags, str) else tags)]
        return push_model(self, repo_id, tokenizer, tags=list(dict.fromkeys(tags)), **arguments)
