"""Pushes of a training run: every one, in the middle of training too, leaves a release on the Hub."""

import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import CommitInfo, run_as_future
from transformers import Trainer
from transformers.trainer_utils import HubStrategy
from transformers.utils import PushInProgress, logging

from ..common.files import CURVES
from ..model.modeling_electra_rtd import ElectraRtdForPreTraining
from ..release.from_memory import write_carded_release
from ..release.hub_client import FAILURES, explained, patiently
from ..release.upload import push
from .plots import plot_curves


logger = logging.get_logger(__name__)


class ReleasePushes(Trainer):
    """A `Trainer` whose pushes are what `electra-rtd push` leaves: one commit each, discriminator at the root,
    `generator/`, tokenizer and a card of the run so far; scanned before and read back after, without optimizer state
    and pickles. A push that fails in the middle of training is a warning; the last one raises.
    """

    push_in_progress: PushInProgress | None = None

    # What is known of the run so far, as the model card takes it; the trainer says it.
    run_record: Callable[[], dict[str, Any]]

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Make the repository, before anything is trained that could then not be pushed.

        Raises:
            ValueError: in one line, for what the Hub refused or could not do.
        """
        name = self.args.hub_model_id or "a new repository"
        try:
            patiently(lambda: super(ReleasePushes, self).init_hf_repo(token, private), name)
        except FAILURES as error:
            raise ValueError(f"push_to_hub: {explained(error, name)}") from error

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        language: list[str] | str | None = None,
        license: str | None = None,
        tags: list[str] | str | None = None,
    ) -> CommitInfo | Future | None:
        """Save the model to the output folder, then push it as a release with its card.

        Args:
            language, license, tags: of the card.

        Returns:
            The commit, or with `blocking=False` its future; on other ranks than the first `None`.

        Raises:
            ValueError: in one line, for what must not be uploaded, and for what the Hub refused or could not do.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.hub_model_id is None:
            self.init_hf_repo(token=token, private=private)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        self._finish_current_push()
        send = self._written_push(
            Path(self.args.output_dir),
            commit_message,
            token=token,
            revision=revision,
            language=[language] if isinstance(language, str) else language,
            license=license,
            tags=[tags] if isinstance(tags, str) else tags or (),
        )
        return send() if blocking else run_as_future(send)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        is_pushing = self.push_in_progress is not None and not self.push_in_progress.is_done()
        if is_pushing and not self.args.hub_always_push:
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        step = self.state.global_step

        def warn(error: Exception) -> None:
            reason = " ".join(str(error).split())
            logger.warning(f"The push of step {step} failed, and training goes on: {reason}")

        try:
            send = self._written_push(Path(checkpoint_folder), f"Training in progress, step {step}")
        except (*FAILURES, OSError, ValueError) as error:
            warn(error)
            return

        def send_quietly() -> None:
            try:
                send()
            except Exception as error:
                # Whatever it was, it must not end a training.
                warn(error)

        job = run_as_future(send_quietly)
        if is_pushing:
            # One thread works them off, so that they never overlap.
            self.push_in_progress.jobs.append(job)
        else:
            self.push_in_progress = PushInProgress([job])

    def _written_push(
        self,
        checkpoint: Path,
        message: str | None,
        token: str | None = None,
        revision: str | None = None,
        tags: Iterable[str] = (),
        **card: Any,
    ) -> Callable[[], CommitInfo]:
        """Write a release of a saved model to a place of its own, where neither training nor the deletion of old
        checkpoints reaches it, and return what pushes it from there.

        It is read from disk because sharded weights have been gathered there.
        """
        if not any(checkpoint.glob("*.safetensors")):
            raise ValueError(
                f"{checkpoint} holds no whole model to push; with FSDP set fsdp_state_dict_type to FULL_STATE_DICT"
            )
        scratch = tempfile.TemporaryDirectory()
        folder = Path(scratch.name) / self.hub_model_id.rpartition("/")[2]
        folder.mkdir()
        curves = Path(scratch.name) / CURVES
        plot_curves(self.state.log_history, curves, title=folder.name)
        # Loading must not disturb what training will draw.
        with torch.random.fork_rng(devices=[]):
            model = ElectraRtdForPreTraining.from_pretrained(checkpoint)
        record = self.run_record()
        write_carded_release(
            model,
            self.processing_class,
            folder,
            tags=tags,
            repo_id=self.hub_model_id,
            run_record=record,
            curves=curves,
            **card,
        )

        def send() -> CommitInfo:
            with scratch:
                return push(
                    folder,
                    self.hub_model_id,
                    private=self.args.hub_private_repo,
                    revision=revision or self.args.hub_revision,
                    message=message or "Upload with electra-rtd",
                    token=token or self.args.hub_token,
                )["info"]

        return send
