"""Rules of the verbs around training: `prepare`, `export`, `publish`, `pipeline`."""

from __future__ import annotations

from kdlab.classifying.recipe import PrepareConfig
from kdlab.config.labels import check_rows
from kdlab.config.names import check_name
from kdlab.exporting.recipe import ExportConfig
from kdlab.pipelines.recipe import PipelineConfig
from kdlab.publishing.recipe import PublishConfig


def check_prepare_rules(config: PrepareConfig) -> None:
    check_name(config.name)
    if config.dataset.labels is None:
        raise ValueError(
            "dataset.labels.column is not set: `kdlab prepare` reads rows with labels; choose dataset=helpsteer2, or "
            "write dataset.labels.column=<column>"
        )
    check_rows(config.dataset)


def check_export_rules(config: ExportConfig) -> None:
    check_name(config.name)
    if not config.model.path:
        raise ValueError("model.path is not set: write model.path=<folder, such as model/ of a run>")
    if config.model.dtype not in ("auto", "float32"):
        raise ValueError(
            f"model.dtype={config.model.dtype}: every variant is made of float32 weights; leave it at auto"
        )
    if config.model.revision is not None or config.model.trust_remote_code:
        raise ValueError(
            "model.revision and model.trust_remote_code: exports are of folders; save the model in one, and give that"
        )
    check_rows(config.dataset)


def check_publish_rules(config: PublishConfig) -> None:
    check_name(config.name)
    if not config.run:
        raise ValueError("run is not set: write run=<a folder that `kdlab train` wrote>")
    if config.repo is None and not config.dry_run:
        raise ValueError("repo is not set: dry_run=false sends; write repo=<user>/<name>")


def check_pipeline_rules(config: PipelineConfig) -> None:
    check_name(config.name)
    if not config.stages:
        raise ValueError("stages is empty: choose experiment=<a pipeline>, such as experiment=helpsteer2")
    if not any(stage.enabled for stage in config.stages.values()):
        raise ValueError("stages: every one is left out; write stages.<name>.enabled=true")
    from kdlab.config.stages import check_stages  # it composes jobs of other verbs, whose rules stand above this one

    check_stages(config)
