"""The command ``voclab``. Each command imports what it needs, so that ``--help`` is instant."""

import argparse
import json
import os
import sys
from pathlib import Path

from voclab import __version__
from voclab.errors import VoclabError


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 done, 2 for something that the user can mend."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments) or 0
    except VoclabError as error:
        print(f"voclab: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `voclab … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None:
            raise
        print(
            f"voclab: {error.filename}: {error.strerror}; check the path and its permissions.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("voclab: interrupted; nothing is half-written", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="voclab", description="PASCAL VOC notebooks, data and submissions.")
    parser.add_argument("--version", action="version", version=f"voclab {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_data(commands)
    _add_run(commands)
    _add_train(commands)
    _add_evaluate(commands)
    _add_visualize(commands)
    _add_consistency(commands)
    _add_robustness(commands)
    _add_submit(commands)
    pretrain = _command(commands, "pretrain", _pretrain, "train a backbone on the procedural source task")
    pretrain.add_argument("--backbone", default="cnn")
    pretrain.add_argument("--images", type=int, default=10000)
    pretrain.add_argument("--epochs", type=int, default=36)
    pretrain.add_argument("--size", type=int, default=64, help="side of the pictures in pixels (default: 64)")
    pretrain.add_argument("--seed", type=int, default=0)
    pretrain.add_argument("--runs", default="runs", help="folder that keeps the run (default: runs)")
    badges = _command(commands, "badges", _badges, "write what opens the notebooks on Colab and Kaggle")
    badges.add_argument("--repo", metavar="OWNER/NAME", help="public address on GitHub (default: none yet)")
    badges.add_argument("--revision", help="what the notebooks install (default: the commit checked out)")
    badges.add_argument("--branch", default="main", help="where badges open the notebooks (default: main)")
    gallery = _command(commands, "gallery", _gallery, "write figures/README.md and figures/index.html")
    gallery.add_argument("--figures", default="figures", help="folder of the figures (default: figures)")
    return parser


def _command(commands, name: str, run, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(run=run)
    return parser


def _group(commands, name: str, text: str):
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    return parser.add_subparsers(required=True, metavar="COMMAND")


def _add_data(commands) -> None:
    group = _group(commands, "data", "make, fetch, describe and convert data sets")
    make = _command(group, "make", _data_make, "generate ToyVOC, the embedded default data")
    make.add_argument("--root", default="data/toyvoc", help="where to (default: data/toyvoc)")
    make.add_argument("--seed", type=int, default=0)
    for split in ("train", "val", "test"):
        make.add_argument(f"--{split}", type=int, help=f"images in {split}")
    make.add_argument("--size", type=int, help="longest side in pixels")

    fetch = _command(group, "fetch", _data_fetch, "download the original data")
    fetch.add_argument("source", choices=["voc2009", "cifar10", "kaggle"])
    fetch.add_argument("--root", default="data", help="where to (default: data)")
    fetch.add_argument("--competition", metavar="SLUG", help="with kaggle: the competition's slug")

    info = _command(group, "info", _data_info, "count classes, sizes, objects and background")
    _data_option(info)
    info.add_argument("--split", default="train")
    info.add_argument("--json", action="store_true", help="print JSON instead of a table")

    export = _command(group, "export", _data_export, "write a data set in the competition's layout")
    _data_option(export)
    export.add_argument("--to", required=True, metavar="FOLDER")
    export.add_argument("--test-split", help="the list that becomes the test set (default: the held-out one)")
    export.add_argument("--truth", metavar="FOLDER", help="where the test set's truth goes, if it is wanted")


def _add_run(commands) -> None:
    run = _command(commands, "run", _run, "execute a notebook, or all of them")
    run.add_argument("notebook", help="its number or name, e.g. 01, or all")
    run.add_argument("--profile", choices=["auto", "smoke", "demo", "full"])
    _data_option(run)
    run.add_argument("--pictures", help="small pictures by class, for adversarial training (notebook 04)")
    run.add_argument("--weights", help="auto, imagenet, source, none, or a weights file")
    run.add_argument("--backbone", help="another backbone for the transfer models")
    run.add_argument("--seed", type=int)
    run.add_argument("--epsilon", type=float, help="bound of the adversary in steps of 1/255 (notebook 03)")
    run.add_argument("--out", metavar="FOLDER", help="where runs, figures and submissions go")
    run.add_argument("--notebooks", default="notebooks", help="folder of the notebooks")
    target = run.add_mutually_exclusive_group()
    target.add_argument("--in-place", action="store_true", help="save into the notebook itself (ToyVOC only)")
    target.add_argument("--output", metavar="FILE", help="save the executed notebook there")


def _add_train(commands) -> None:
    train = _command(commands, "train", _train, "train one classifier by name")
    train.add_argument("--dataset", "--data", help="a name, or a folder, also of pictures by class")
    train.add_argument("--model", help="cnn, resnet8, resnet20, resnet18, vgg, densenet, mobilenet_v2, …")
    train.add_argument("--augmentations", help="none, standard (default), advanced, adversarial")
    for name, kind, text in (
        ("epochs", int, "longest training (default: 20)"),
        ("rate", float, "peak learning rate (default: by optimizer)"),
        ("batch-size", int, "images a step (default: 64)"),
        ("size", int, "side of the pictures in pixels (default: their own up to 64, else 128)"),
        ("momentum", float, "of SGD (default: 0.9)"),
        ("weight-decay", float, "on kernels, times the rate (default: 1e-4)"),
        ("dropout", float, "before the last layer (default: 0.2)"),
        ("mixup", float, "alpha of mixup (default: 0, none)"),
        ("width", float, "of the network (default: as published)"),
        ("epsilon", float, "bound of adversarial training in steps of 1/255 (default: 8)"),
        ("steps", int, "PGD steps inside it (default: 4)"),
        ("patience", int, "epochs without a better score before it stops (default: 15)"),
        ("seed", int, "of everything (default: 0)"),
    ):
        train.add_argument(f"--{name}", type=kind, help=text)
    train.add_argument("--label-smoothing", dest="smoothing", type=float, help="from 0 (default) to 1")
    train.add_argument("--optimizer", help="adam (default) or sgd")
    train.add_argument("--weights", help="imagenet, or a file with the backbone's weights")
    train.add_argument(
        "--config", metavar="FILE", help="a run's config.json to repeat; other options change it"
    )
    train.add_argument("--name", help="folder of the run (default: by data, model and augmentations)")
    train.add_argument("--runs", default="runs", help="folder of the runs (default: runs)")


def _add_evaluate(commands) -> None:
    evaluate = _command(commands, "evaluate", _evaluate, "measure a model, also under noise and attack")
    evaluate.add_argument("--model", required=True, help="a run's folder, or a .keras file")
    evaluate.add_argument(
        "--dataset",
        "--data",
        dest="data",
        help="a name, or a folder (default: what is found in data/)",
    )
    evaluate.add_argument("--split", help="a list of the data set (default: the held-out one)")
    evaluate.add_argument("--size", type=int, help="side of the photos in pixels (default: the run's)")
    evaluate.add_argument("--images", type=int, help="measure on that many photos, spread over the split")
    evaluate.add_argument("--noise", help="one perturbation instead of all, e.g. gaussian; needs --level")
    evaluate.add_argument("--level", type=float, help="its strength, e.g. 0.1")
    evaluate.add_argument("--no-attacks", action="store_true", help="leave FGSM and PGD out")
    evaluate.add_argument("--corruptions", action="store_true", help="also ImageNet-C's fifteen × five")
    evaluate.add_argument("--seed", type=int, default=0)
    evaluate.add_argument("--figure", metavar="FILE", help="save the reliability diagram as PNG and SVG")
    evaluate.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _add_visualize(commands) -> None:
    visualize = _command(commands, "visualize", _visualize, "show what a classifier sees and gets wrong")
    visualize.add_argument("--model", required=True, help="a run's folder, or a .keras file")
    visualize.add_argument("--sample-id", required=True, help="id of a picture, or its number from 0 on")
    _data_option(visualize)
    visualize.add_argument("--split", help="a list of the data set (default: the held-out one)")
    visualize.add_argument("--layers", nargs="+", help="whose feature maps to show (default: three)")
    visualize.add_argument("--size", type=int, help="side of the pictures in pixels (default: the run's)")
    visualize.add_argument("--to", metavar="FOLDER", help="where the pictures go (default: MODEL/pictures)")


def _add_robustness(commands) -> None:
    robustness = _command(commands, "robustness", _robustness, "write a page on what harms each network")
    robustness.add_argument(
        "--model", required=True, nargs="+", metavar="PATH", help="folders of runs, or .keras files"
    )
    _data_option(robustness)
    robustness.add_argument("--split", help="a list of the data set (default: the held-out one)")
    robustness.add_argument("--size", type=int, help="side of the photos in pixels (default: the run's)")
    robustness.add_argument("--images", type=int, default=0, help="that many photos (default: all)")
    robustness.add_argument("--attacked", type=int, default=64, help="photos for the attacks (default: 64)")
    robustness.add_argument(
        "--baseline", metavar="NAME", help="network that mCE is relative to (default: the first)"
    )
    robustness.add_argument("--seed", type=int, default=0)
    robustness.add_argument(
        "--to", metavar="FOLDER", help="default: figures/robustness for drawn data, else runs/robustness/NAME"
    )


def _add_consistency(commands) -> None:
    consistency = _command(
        commands, "consistency", _consistency, "see which answers stay under ten perturbations"
    )
    consistency.add_argument(
        "--model",
        required=True,
        nargs="+",
        metavar="SPEC",
        help="an ImageNet classifier by name (vgg16, resnet50, densenet121, efficientnet_b0, …), with Keras'"
        " weights or with a file's, NAME=FILE or NAME:ALPHA=FILE; a run's folder; or a .keras file",
    )
    photos = consistency.add_mutually_exclusive_group()
    _data_option(photos)
    photos.add_argument("--image", metavar="PATH", help="a picture, or a folder of pictures without labels")
    consistency.add_argument("--split", help="a list of the data set (default: the held-out one)")
    consistency.add_argument("--images", type=int, help="measure on that many photos, spread evenly")
    consistency.add_argument("--seed", type=int, default=0)
    consistency.add_argument(
        "--to",
        metavar="FOLDER",
        help="where page and figures go (default: figures/robustness for drawn data, else"
        " runs/robustness/DATA)",
    )
    consistency.add_argument("--json", action="store_true", help="print JSON instead of tables")


def _add_submit(commands) -> None:
    group = _group(commands, "submit", "check, merge, score and send submission files")
    check = _command(group, "check", _submit_check, "say whether a submission file is valid")
    check.add_argument("file")
    check.add_argument("--data", help="data set whose held-out images the file must cover")
    check.add_argument("--split", help="another list of that data set")
    merge = _command(group, "merge", _submit_merge, "join classification and segmentation rows")
    merge.add_argument("parts", nargs="+", metavar="FILE")
    merge.add_argument("--to", required=True, metavar="FILE")
    push = _command(group, "push", _submit_push, "check a submission file and send it to Kaggle")
    push.add_argument("file")
    push.add_argument("--competition", required=True, metavar="SLUG", help="last part of its address")
    push.add_argument("--message", help="description on Kaggle (default: the file and its run)")
    push.add_argument("--wait", action="store_true", help="wait for the score and print it")
    push.add_argument("--again", action="store_true", help="send a file that was sent before")
    push.add_argument(
        "--data", help="data set whose held-out images the file must cover (default: data/SLUG, if there)"
    )
    push.add_argument("--split", help="another list of that data set")
    score = _command(group, "score", _submit_score, "score a submission as the competition does")
    score.add_argument("prediction")
    score.add_argument("truth", help="a submission file made of the truth")
    score.add_argument("--json", action="store_true", help="print JSON")


def _data_option(parser) -> None:
    parser.add_argument(
        "--data",
        "--dataset",
        help="voc2009, kaggle, toyvoc, cifar10, toycifar, or a folder, also of pictures by class (default:"
        " what is found in data/)",
    )


def _data_make(arguments) -> None:
    from voclab.datasets.toyvoc import make_toyvoc

    given = {name: getattr(arguments, name) for name in ("train", "val", "test", "size")}
    given = {name: value for name, value in given.items() if value is not None}
    print(f"ToyVOC is in {make_toyvoc(arguments.root, seed=arguments.seed, **given)}")


def _data_fetch(arguments) -> None:
    from voclab.datasets import fetch

    if arguments.source == "voc2009":
        print(f"PASCAL VOC 2009 is in {fetch.fetch_voc2009(arguments.root)}")
        return
    if arguments.source == "cifar10":
        print(f"CIFAR-10 is in {fetch.fetch_cifar10(arguments.root)}")
        return
    if not arguments.competition:
        raise VoclabError("No competition was named; add --competition SLUG, the last part of its address.")
    print(f"{arguments.competition} is in {fetch.fetch_kaggle(arguments.competition, arguments.root)}")


def _data_info(arguments) -> None:
    from voclab import datasets
    from voclab.datasets import info

    found = datasets.find(arguments.data)
    dataset = datasets.load(found.name, found.root, arguments.split)
    description = info.describe(
        dataset, objects=datasets.count_objects(found.name, found.root, arguments.split)
    )
    print(json.dumps(description, indent=1) if arguments.json else info.table(description))


def _data_export(arguments) -> None:
    from voclab import datasets
    from voclab.datasets import kaggle

    found = datasets.find(arguments.data)
    train = datasets.load(found.name, found.root, "train")
    split = arguments.test_split or datasets.heldout_split(found.name)
    kaggle.export(
        train, datasets.load(found.name, found.root, split), arguments.to, truth_root=arguments.truth
    )
    print(f"{found.name} is in {arguments.to}, in the competition's layout")


def _run(arguments) -> None:
    from voclab import datasets, notebooks

    names = ("profile", "data", "pictures", "weights", "backbone", "seed", "epsilon", "out")
    parameters = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    for name in (
        "data",
        "pictures",
        "weights",
        "out",
    ):  # the kernel works in another folder than this command
        if name in parameters and (name == "out" or Path(parameters[name]).exists()):
            parameters[name] = str(Path(parameters[name]).resolve())
    every = notebooks.available(arguments.notebooks)
    if arguments.notebook == "all" and arguments.output:
        raise VoclabError(
            f"All notebooks cannot be saved in the one file {arguments.output}; name one notebook."
        )
    chosen = [arguments.notebook]
    if arguments.notebook == "all":
        chosen = every
        if arguments.data not in (None, datasets.EMBEDDED):
            kind = datasets.find(arguments.data).name
            chosen = [which for which in every if notebooks.suits(which, kind, arguments.notebooks)]
            print(f"{', '.join(chosen)}: the notebooks that are about data such as {arguments.data}")
    for which in chosen:
        written = notebooks.run(
            which,
            parameters=parameters,
            notebooks_dir=arguments.notebooks,
            output=arguments.output,
            in_place=arguments.in_place,
        )
        print(f"{which}: executed, saved in {written}")


def _train(arguments) -> None:
    from dataclasses import fields

    from voclab.backend import use_all_gpus
    from voclab.studies import training

    options = {field.name: getattr(arguments, field.name, None) for field in fields(training.Plan)}
    plan = training.plan_from(options, arguments.config)
    use_all_gpus(plan.batch_size)
    name = arguments.name or training.usual_name(plan)
    print(training.train_classifier(plan, name, Path(arguments.runs)).folder)


def _evaluate(arguments) -> None:
    from voclab import datasets
    from voclab.studies import evaluation

    if (arguments.noise is None) != (arguments.level is None):
        raise VoclabError("--noise and --level belong together, e.g. --noise gaussian --level 0.1.")
    found = datasets.find(arguments.data)
    split = arguments.split or datasets.heldout_split(found.name)
    dataset = datasets.load(found.name, found.root, split)
    report = evaluation.report(
        arguments.model,
        dataset,
        size=arguments.size,
        images=arguments.images,
        noise=arguments.noise,
        level=arguments.level,
        attacks=not arguments.no_attacks,
        corruptions=arguments.corruptions,
        seed=arguments.seed,
        progress=lambda line: print(line, file=sys.stderr),
    )
    if arguments.figure:
        from voclab import figures

        tables, eces = evaluation.calibration(report)
        figures.save(
            figures.reliability_diagram(tables, eces),
            Path(arguments.figure).with_suffix(""),
            title="Calibration",
            caption=f"{report.facts['model']} on {report.facts['photos']} photos of {report.facts['data']}.",
            alt="Observed frequency over predicted probability",
        )
    print(json.dumps(report.as_dict(), indent=1) if arguments.json else report.text())


def _visualize(arguments) -> None:
    from voclab import datasets, visual

    found = datasets.find(arguments.data)
    split = arguments.split or datasets.heldout_split(found.name)
    model = Path(arguments.model)
    to = arguments.to or (model if model.is_dir() else model.parent) / "pictures"
    for path in visual.visualize(
        model,
        datasets.load(found.name, found.root, split),
        arguments.sample_id,
        to,
        layers=arguments.layers,
        size=arguments.size,
    ):
        print(path)


def _robustness(arguments) -> None:
    from voclab import datasets, report
    from voclab.studies import robustness

    found = datasets.find(arguments.data)
    split = arguments.split or datasets.heldout_split(found.name)
    dataset = datasets.load(found.name, found.root, split)
    to = Path(arguments.to or _report_folder(found.name, found.root))
    tested = robustness.subjects(arguments.model, dataset, arguments.size)
    measured = robustness.measure(
        tested,
        dataset,
        to,
        images=arguments.images,
        attacked=arguments.attacked,
        seed=arguments.seed,
        progress=lambda line: print(line, file=sys.stderr),
    )
    for path in report.robustness_report(measured, tested, dataset, to, arguments.baseline):
        print(path)


def _report_folder(name: str, root: Path) -> Path:
    """Where a report goes: photos of others must not land among the committed figures."""
    if name in ("toyvoc", "toycifar"):
        return Path("figures/robustness")
    return Path("runs/robustness") / (root.resolve().name if name == "folder" else name)


def _consistency(arguments) -> None:
    from voclab import datasets, report
    from voclab.datasets import folder
    from voclab.studies import consistency

    if arguments.image:
        if arguments.split:
            raise VoclabError("Pictures without labels have no splits; leave --split out, or name --data.")
        dataset = folder.pictures(arguments.image)
        to = Path("runs/robustness") / dataset.name
    else:
        found = datasets.find(arguments.data)
        split = arguments.split or datasets.heldout_split(found.name)
        dataset = datasets.load(found.name, found.root, split)
        to = _report_folder(found.name, found.root)
    if arguments.images is not None and arguments.images < 1:
        raise VoclabError(f"--images is {arguments.images}; measure on 1 photo or more.")
    dataset = dataset.spread(arguments.images or 0)
    found = consistency.study(
        consistency.opened_all(arguments.model, dataset),
        dataset,
        seed=arguments.seed,
        progress=lambda line: print(line, file=sys.stderr),
    )
    paths = report.consistency_report(found, arguments.to or to)
    if arguments.json:
        print(json.dumps(found.as_dict(), indent=1))
        return
    print(report.consistency_text(found), end="\n\n")
    for path in paths:
        print(path)


def _pretrain(arguments) -> None:
    from voclab.training.source import pretrain_source

    path = pretrain_source(
        arguments.backbone,
        Path(arguments.runs),
        images=arguments.images,
        epochs=arguments.epochs,
        size=arguments.size,
        seed=arguments.seed,
    )
    print(f"weights without head: {path}")


def _submit_check(arguments) -> None:
    from voclab import submission

    ids, shapes = _expected(arguments.data, arguments.split)
    report = submission.check_submission(arguments.file, ids=ids, shapes=shapes)
    print(f"{arguments.file} is valid: {report}")
    for kind in {"classification", "segmentation"} - set(report.kinds):
        print(f"It has no {kind} rows, and Kaggle wants both: join two files with `voclab submit merge`.")


def _expected(data: str | None, split: str | None):
    """Ids and sizes of the images that a submission must cover, as far as a data set is named."""
    if data is None:
        return None, None
    from voclab import datasets

    found = datasets.find(data)
    images = datasets.load(found.name, found.root, split or datasets.heldout_split(found.name))
    return images.ids, {name: images.image(i).shape[:2] for i, name in enumerate(images.ids)}


def _submit_push(arguments) -> None:
    from voclab import submission

    fetched = Path("data") / arguments.competition
    data = arguments.data or (str(fetched) if fetched.is_dir() else None)
    ids, shapes = _expected(data, arguments.split)
    submission.push_submission(
        arguments.file,
        arguments.competition,
        arguments.message,
        wait=arguments.wait,
        again=arguments.again,
        ids=ids,
        shapes=shapes,
    )


def _submit_merge(arguments) -> None:
    from voclab import submission

    submission.merge_submissions(arguments.to, *arguments.parts)
    print(f"{arguments.to} is written")


def _submit_score(arguments) -> None:
    from voclab import submission

    score = submission.score_submission(arguments.prediction, arguments.truth)
    parts = {"mean": score.mean, "classification": score.classification, "segmentation": score.segmentation}
    if arguments.json:
        print(json.dumps(parts))
        return
    for name, value in parts.items():
        print(f"{name:15s} {'-' if value is None else format(value, '.4f')}")


def _badges(arguments) -> None:
    from voclab import badges

    changed = badges.write_badges(arguments.repo, arguments.revision, branch=arguments.branch)
    print("\n".join(map(str, changed)) or "All badges and install cells are as they should be")


def _gallery(arguments) -> None:
    from voclab import gallery

    for path in gallery.write(arguments.figures):
        print(path)


if __name__ == "__main__":
    sys.exit(main())
