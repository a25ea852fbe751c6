"""What each command of ``voclab`` does with its arguments; :mod:`voclab.cli` says which it takes.

Each imports what it needs, so that ``--help`` and checking a file need not wait for TensorFlow.
"""

import json
from pathlib import Path

from voclab.errors import VoclabError
from voclab.terminal import say, tell
from voclab.text import from_markdown


def data_make(arguments) -> None:
    """Generate ToyVOC, the embedded default data."""
    from voclab.data.drawn import draw

    given = {name: getattr(arguments, name) for name in ("train", "val", "test", "size")}
    given = {name: value for name, value in given.items() if value is not None}
    say(f"ToyVOC is in {draw('toyvoc', arguments.root, seed=arguments.seed, **given)}")


def data_fetch(arguments) -> None:
    """Download the original data."""
    from voclab.data import fetch

    source, root, urls = arguments.source, arguments.root, tuple(arguments.url or ())
    if source == "kaggle" and not arguments.competition:
        raise VoclabError("No competition was named; add --competition SLUG, the last part of its address.")
    stray = "--url" if source == "kaggle" else "--competition"
    if urls if source == "kaggle" else arguments.competition:
        raise VoclabError(f"{stray} does not go with {source}; leave it out.")
    if source == "voc2009":
        say(f"PASCAL VOC 2009 is in {fetch.voc2009(root, addresses=fetch.VOC2009.addresses + urls)}")
    elif source == "cifar10":
        say(f"CIFAR-10 is in {fetch.cifar10(root, addresses=fetch.CIFAR10.addresses + urls)}")
    else:
        say(f"{arguments.competition} is in {fetch.competition(arguments.competition, root)}")


def data_info(arguments) -> None:
    """Count classes, sizes, objects and background."""
    from voclab.data import count_objects, find, info, load

    found = find(arguments.data)
    dataset = load(found.name, found.root, arguments.split)
    description = info.describe(dataset, objects=count_objects(found.name, found.root, arguments.split))
    say(json.dumps(description, indent=1) if arguments.json else info.table(description))


def data_export(arguments) -> None:
    """Write a data set in the competition's layout."""
    from voclab.data import competition as kaggle
    from voclab.data import find, load, test_split

    found = find(arguments.data)
    train = load(found.name, found.root, "train")
    split = arguments.test_split or test_split(found.name)
    kaggle.export(train, load(found.name, found.root, split), arguments.to, truth_root=arguments.truth)
    say(f"{found.name} is in {arguments.to}, in the competition's layout")


def run(arguments) -> None:
    """Execute a notebook, or all of them."""
    from voclab import parameters
    from voclab.data import EMBEDDED, NAMES, find
    from voclab.reporting import notebooks

    names = ("profile", "data", "small_images", "weights", "backbone", "seed", "epsilon", "out")
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    parameters.check(**given)
    for name in (
        "data",
        "small_images",
        "weights",
        "out",
    ):  # the kernel works in another folder than this command
        if name in given and (name == "out" or Path(given[name]).exists()):
            given[name] = str(Path(given[name]).resolve())
    for name in ("data", "small_images"):
        if name in given and given[name] not in (*NAMES, EMBEDDED):
            find(given[name])
    every = notebooks.available(arguments.notebooks)
    if arguments.notebook == "all" and arguments.output:
        raise VoclabError(
            f"All notebooks cannot be saved in the one file {arguments.output}; name one notebook."
        )
    chosen = [arguments.notebook]
    if arguments.notebook == "all":
        chosen = every
        if arguments.data not in (None, EMBEDDED):
            named = arguments.data in NAMES  # it may yet have to be downloaded
            kind = arguments.data if named else find(arguments.data).name
            chosen = [which for which in every if notebooks.suits(which, kind, arguments.notebooks)]
            say(f"{', '.join(chosen)}: the notebooks that are about data such as {arguments.data}")
    for which in chosen:
        written = notebooks.run(
            which,
            parameters=given,
            notebooks_dir=arguments.notebooks,
            output=arguments.output,
            in_place=arguments.in_place,
        )
        say(f"{which}: executed, saved in {written}")


def train(arguments) -> None:
    """Train one classifier by name."""
    from voclab.data import find
    from voclab.experiments.plan import CHECKS, plan_from, usual_name

    plan = plan_from({name: getattr(arguments, name, None) for name in CHECKS}, arguments.config)
    find(plan.dataset)
    name = arguments.name or usual_name(plan)

    from voclab.backend import use_all_gpus
    from voclab.experiments import training

    use_all_gpus(plan.batch_size)
    say(training.train_classifier(plan, name, Path(arguments.runs)).folder)


def evaluate(arguments) -> None:
    """Measure a model, also under noise and attack."""
    from voclab.models.saved import model_file

    if (arguments.noise is None) != (arguments.level is None):
        raise VoclabError("--noise and --level belong together, e.g. --noise gaussian --level 0.1.")
    if arguments.noise is not None:
        from voclab.corruptions import NOISES, require_strength

        require_strength(NOISES.get(arguments.noise, arguments.noise), arguments.level)
    model_file(arguments.model)
    _, dataset = _measured_on(arguments)

    from voclab.evaluation import measure as evaluation

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
        progress=tell,
    )
    if arguments.figure:
        from voclab import plotting

        tables, eces = evaluation.calibration(report)
        plotting.save(
            plotting.reliability_diagram(tables, eces),
            Path(arguments.figure).with_suffix(""),
            title="Calibration",
        )
    say(json.dumps(report.as_dict(), indent=1) if arguments.json else report.text())


def _measured_on(arguments):
    """The data set that is named, and the split that a network is measured on, which has truth."""
    from voclab.data import find, load, test_split

    found = find(arguments.data)
    split = arguments.split or test_split(found.name)
    dataset = load(found.name, found.root, split)
    dataset.require_truth()
    return found, dataset


def visualize(arguments) -> None:
    """Show what a classifier sees and gets wrong."""
    from voclab.models.saved import model_file, require_layers

    model = model_file(arguments.model)
    require_layers(model, arguments.layers)
    _, dataset = _measured_on(arguments)
    dataset.position(arguments.sample_id)
    to = arguments.to or model.parent / "images"

    from voclab.app import visual

    for path in visual.visualize(
        model,
        dataset,
        arguments.sample_id,
        to,
        layers=arguments.layers,
        size=arguments.size,
        progress=tell,
    ):
        say(path)


def robustness(arguments) -> None:
    """Write a page on what harms each network."""
    from voclab.models.saved import model_files

    names = list(model_files(arguments.model))
    if arguments.baseline is not None and arguments.baseline not in names:
        raise VoclabError(
            f"The baseline {arguments.baseline} is not among {', '.join(names)}; name one of them."
        )
    found, dataset = _measured_on(arguments)

    from voclab.evaluation import robustness
    from voclab.reporting import pages

    to = Path(arguments.to or _report_folder(found.name, found.root))
    tested = robustness.subjects(arguments.model, dataset, arguments.size, tell)
    measured = robustness.measure(
        tested,
        dataset,
        to,
        images=arguments.images or 0,
        attacked=arguments.attacked,
        seed=arguments.seed,
        progress=tell,
    )
    for path in pages.robustness_report(measured, tested, dataset, to, arguments.baseline):
        say(path)


def _report_folder(name: str, root: Path) -> Path:
    """Where a report goes: images of others must not land among the committed figures."""
    if name in ("toyvoc", "toycifar"):
        return Path("figures/robustness")
    return Path("runs/robustness") / (root.resolve().name if name == "folder" else name)


def consistency(arguments) -> None:
    """See which answers stay under ten perturbations."""
    from voclab.data import find, folder, load, test_split
    from voclab.models.saved import networks_named

    networks_named(arguments.model)
    if arguments.image:
        if arguments.split:
            raise VoclabError("Images without labels have no splits; leave --split out, or name --data.")
        dataset = folder.images(arguments.image)
        to = Path("runs/robustness") / dataset.name
    else:
        found = find(arguments.data)
        split = arguments.split or test_split(found.name)
        dataset = load(found.name, found.root, split)
        to = _report_folder(found.name, found.root)
    from voclab.evaluation import study as consistency
    from voclab.reporting import pages

    dataset = dataset.spread(arguments.images or 0)
    found = consistency.study(
        consistency.opened_all(arguments.model, dataset, tell),
        dataset,
        seed=arguments.seed,
        progress=tell,
    )
    paths = pages.consistency_report(found, arguments.to or to)
    if arguments.json:
        say(json.dumps(found.as_dict(), indent=1))
        return
    say(from_markdown(pages.consistency_text(found)), end="\n\n")
    for path in paths:
        say(path)


def submit_check(arguments) -> None:
    """Say whether a submission file is valid."""
    from voclab import kaggle

    ids, shapes = _expected(arguments.data, arguments.split)
    report = kaggle.check_submission(arguments.file, ids=ids, shapes=shapes)
    say("\n".join([f"{arguments.file} is valid: {report}", *report.remarks()]))


def _expected(data: str | None, split: str | None):
    """Ids and sizes of the images that a submission must cover, as far as a data set is named."""
    if data is None:
        return None, None
    from voclab.data import VOC_CLASSES, find, load, test_split

    found = find(data)
    images = load(found.name, found.root, split or test_split(found.name))
    if set(images.class_names) != set(VOC_CLASSES):
        raise VoclabError(f"{data} has other classes than the competition's twenty of VOC; name other data.")
    return images.ids, {name: images.image(i).shape[:2] for i, name in enumerate(images.ids)}


def submit_push(arguments) -> None:
    """Check a submission file and send it to Kaggle."""
    from voclab import kaggle

    fetched = Path("data") / arguments.competition
    data = arguments.data or (str(fetched) if fetched.is_dir() else None)
    ids, shapes = _expected(data, arguments.split)
    kaggle.push_submission(
        arguments.file,
        arguments.competition,
        arguments.message,
        wait=arguments.wait,
        again=arguments.again,
        ids=ids,
        shapes=shapes,
    )


def submit_merge(arguments) -> None:
    """Join classification and segmentation rows."""
    from voclab import kaggle

    kaggle.merge_submissions(arguments.to, *arguments.parts)
    say(f"{arguments.to} is written")


def submit_truth(arguments) -> None:
    """Write a data set's truth as the file that `submit score` wants."""
    from voclab import kaggle
    from voclab.data import competition, find, load, test_split

    found = find(arguments.data)
    split = arguments.split or test_split(found.name)
    if arguments.truth and found.name != "kaggle":
        raise VoclabError(f"{found.name} brings its own truth; leave --truth out.")
    if arguments.truth:
        dataset = competition.read(found.root, split, truth_root=arguments.truth)
    else:
        dataset = load(found.name, found.root, split)
    report = kaggle.write_truth(arguments.to, dataset)
    say("\n".join([f"The truth of {found.name} {split} is in {arguments.to}: {report}", *report.remarks()]))


def submit_score(arguments) -> None:
    """Score a submission as the competition does."""
    from voclab import kaggle

    score = kaggle.score_submission(arguments.prediction, arguments.truth)
    parts = {"mean": score.mean, "classification": score.classification, "segmentation": score.segmentation}
    if arguments.json:
        say(json.dumps(parts))
        return
    for name, value in parts.items():
        say(f"{name:15s} {'-' if value is None else format(value, '.4f')}")


def badges(arguments) -> None:
    """Write what opens the notebooks on Colab and Kaggle."""
    from voclab.reporting import badges

    changed = badges.write_badges(arguments.repo, arguments.revision, branch=arguments.branch)
    say("\n".join(map(str, changed)) or "All badges and install cells are as they should be")


def gallery(arguments) -> None:
    """Write figures/README.md and figures/index.html."""
    from voclab.reporting import gallery

    for path in gallery.write(arguments.figures):
        say(path)
