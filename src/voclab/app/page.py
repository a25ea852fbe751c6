"""The page of ``voclab app``: Gradio blocks around :class:`voclab.app.demo.Answers`, and how it is served."""

import atexit
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # Gradio reads it while it is imported

import gradio as gr
import numpy as np

from voclab.app.attack import GENERATOR
from voclab.app.demo import MOST, Answers, Seen, open_photo, write_examples
from voclab.corruptions import CONSISTENCY, STRENGTHS
from voclab.errors import VoclabError
from voclab.evaluation import open_saved
from voclab.models.ready import CLASSIFIER, SEGMENTER
from voclab.text import html, markdown

UPLOAD = "25mb"  # the largest file that is taken
_BROWSERS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif")  # files that they show themselves
_TOP = 5  # classes of which the page shows the probability
# One after the other: two at once would only wait for each other's cores. What a slider passes on its way is
# left out.
_ASKED = {
    "concurrency_id": "networks",
    "concurrency_limit": 1,
    "show_progress": "minimal",
    "api_visibility": "private",
}
_MOVED: dict[str, Any] = _ASKED | {"trigger_mode": "always_last"}
_CSS = """
.gradio-container { max-width: 1280px !important; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; }
.legend span::before {
  content: ""; display: inline-block; width: 14px; height: 14px; margin-right: 6px; vertical-align: -2px;
  border: 1px solid #777; background: var(--colour);
}
/* Small images fill their place, and all perturbed ones are in sight. */
.picture img { width: 100%; height: 100%; object-fit: contain; }
#perturbed .grid-wrap { max-height: none; overflow: visible; }
#perturbed .thumbnail-item { aspect-ratio: 4 / 3; }
#perturbed .caption-label { max-width: 100%; white-space: normal; text-align: right; }
@media (max-width: 640px) { #perturbed .grid-container { grid-template-columns: repeat(2, 1fr); } }
"""
# Gradio's semibold, which its theme asks for, lacks most letters.
_FONT = (gr.themes.LocalFont("Source Sans Pro", weights=(400, 700)), "system-ui", "sans-serif")
_GENERATOR = (
    "The generator is a network that was trained to fool these two. It is told ε and whom to fool, and takes"
    " one pass through their encoder and back; FGSM takes one gradient, PGD ten."
)
# How a tab answers about a photo: function, inputs, outputs.
Part = tuple[Callable, list, list]


def open_answers(model: str | Path = CLASSIFIER, segmenter: str | Path | None = None) -> Answers:
    """Load the networks that the page asks and compile what they need, which takes some seconds.

    Args:
        model: a classifier: a run's folder or a ``.keras`` file; without it the one that comes with voclab.
        segmenter: a segmenter, the same. Without it there is one only beside the classifier of voclab: a run
            of one's own may know other classes than its segmenter.

    Raises:
        VoclabError: no such network, or one of another kind.
    """
    segmenter = segmenter or (SEGMENTER if model == CLASSIFIER else None)
    answers = Answers(open_saved(model), open_saved(segmenter) if segmenter else None)
    answers.warm_up()
    return answers


@contextmanager
def served(answers: Answers, port: int | None = None, host: str = "127.0.0.1") -> Iterator[str]:
    """Serve the page while the block runs; yields its address. Photos that were uploaded are deleted then.

    Nothing is sent to another computer but to those that open the page, which ``host`` has to allow.

    Args:
        answers: the networks.
        port: of the page; without it the first free one from 7860 on.
        host: address that it listens at; ``"0.0.0.0"`` for all that this computer has.

    Raises:
        VoclabError: the port is taken.
    """
    with tempfile.TemporaryDirectory(prefix="voclab-app-", ignore_cleanup_errors=True) as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # where Gradio keeps uploads
        for name in ("NO_PROXY", "no_proxy"):  # Gradio asks itself whether it is up, which no proxy can
            os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1", "localhost")))
        page = build(answers, write_examples(folder))
        try:
            _, url, _ = page.launch(
                server_name=host,
                server_port=port,
                share=False,
                ssr_mode=False,
                max_file_size=UPLOAD,
                run_history=False,
                footer_links=[],
                css=_CSS,
                theme=gr.themes.Default(font=_FONT),
                quiet=True,
                show_error=True,
                prevent_thread_lock=True,
            )
        except OSError as error:
            why = "is taken, or kept for the system" if port and port < 1024 else "is taken"
            where = f"Port {port} {why}" if port else "No port from 7860 on is free"
            raise VoclabError(f"{where}; name another one with --port.") from error
        try:
            yield url
        finally:
            page.close(verbose=False)


def show(model: str | Path = CLASSIFIER, segmenter: str | Path | None = None) -> None:
    """Show the page below a cell of a notebook, also on Colab, until the notebook's kernel ends.

    Arguments and errors are those of :func:`open_answers`.
    """
    stack = ExitStack()
    stack.enter_context(served(open_answers(model, segmenter)))
    atexit.register(stack.close)


def wait() -> None:
    """Return when somebody presses Ctrl+C."""
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


def build(answers: Answers, examples: Sequence[Path]) -> gr.Blocks:
    """The page, not yet served.

    Args:
        answers: the networks.
        examples: image files to choose from; the page begins with the first one.
    """
    with gr.Blocks(title="voclab", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown(_introduction(answers))
        pixels, due, shown = gr.State(), gr.State(()), gr.State(next(iter(_TABS)))
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                photo = gr.Image(
                    str(examples[0]), format="png", label="Photo", height=340, buttons=[], elem_id="photo"
                )
                notice = gr.Markdown(elem_id="notice")
                gr.Examples([[str(path)] for path in examples], photo, label="Examples")
            with gr.Column(scale=3, min_width=300), gr.Tabs():
                tabs = []
                for title, lay_out in _TABS.items():
                    with gr.Tab(title) as tab:
                        part = lay_out(answers, pixels)
                    tabs.append((title, part, tab.select(lambda title=title: title, None, shown, **_ASKED)))
        # Unprocessed: Gradio would open the file itself, and call a damaged one an error of this program. It
        # checks all the same that somebody has uploaded the file.
        opened: dict[str, Any] = {
            "inputs": photo,
            "outputs": [pixels, notice, photo, due],
            "preprocess": False,
        }
        event = gr.on([page.load, photo.change], _opened, **opened, **_MOVED)
        for title, (function, inputs, outputs), selected in tabs:
            answer: dict[str, Any] = {"fn": _if_due(title, function), "inputs": [due, shown, *inputs]}
            event = event.then(**answer, outputs=[due, *outputs], **_ASKED)
            selected.then(**answer, outputs=[due, *outputs], **_ASKED)
    return page


def _if_due(title: str, function: Callable) -> Callable:
    """Only the tab that is shown answers, and once a photo: what nobody looks at would keep it waiting."""

    def call(due, shown, *given):
        if title != shown or title not in due:
            return gr.skip()
        found = function(*given)
        return tuple(other for other in due if other != title), *(
            found if isinstance(found, tuple) else [found]
        )

    return call


# --- the tabs: each lays out its components and says how it answers ---


def _what_and_where(answers: Answers, pixels: gr.State) -> Part:
    names = list(answers.classifier.class_names)
    classes = gr.Label(label="Classes", num_top_classes=_TOP, show_heading=False, elem_id="classes")
    with gr.Row():
        with gr.Column(min_width=250, visible=answers.explains):
            heat = _picture("Grad-CAM")
            chosen = gr.Dropdown(names, label="Places that speak for", elem_id="chosen")
        with gr.Column(min_width=250, visible=answers.segmenter is not None):
            regions = _picture("Segmentation")
            legend = gr.HTML(elem_id="legend")

    @_nothing_without_a_photo(1)
    def explain(image, name):
        return answers.heat(image, name) if answers.explains else None

    @_nothing_without_a_photo(5)
    def look(image):
        seen = answers.look(image)
        found = seen.regions and seen.regions.overlay
        return seen.classes, found, _legend(seen), seen.top, explain(image, seen.top)

    chosen.input(explain, [pixels, chosen], heat, **_MOVED)
    return look, [pixels], [classes, regions, legend, chosen, heat]


def _attack(answers: Answers, pixels: gr.State) -> Part:
    with gr.Row():
        known = GENERATOR in answers.attacks
        kind = gr.Radio(
            list(answers.attacks),
            value=GENERATOR if known else "PGD",
            label="Attack",
            info=_GENERATOR if known else None,
            elem_id="attack",
        )
        victims = list(answers.victims)
        victim = gr.Radio(victims, value=victims[0], label="on the", visible=len(victims) > 1)
    most = f"ε: the most by which a value may change, of 255 (0 to {MOST})"
    epsilon = gr.Slider(0, MOST, 4, step=1, label=most, elem_id="epsilon", buttons=[])
    verdict = gr.Markdown(elem_id="verdict")
    with gr.Row():
        attacked, change = _picture("Attacked photo", "png", 250), _picture("Perturbation", "png", 250)
    with gr.Row():
        before = _seen(answers, "Before")
        after = _seen(answers, "After")
        saved = _seen(answers, "After, saved as JPEG")
    quality = gr.Slider(5, 95, 75, step=5, label="JPEG quality", elem_id="quality", buttons=[])
    kept = gr.State()

    @_nothing_without_a_photo(2)
    def save(image, attacked, quality):
        return _shown(answers.compressed(image, attacked, quality)) if attacked is not None else (None, None)

    @_nothing_without_a_photo(10)
    def run(image, kind, epsilon, victim, quality):
        try:
            done = answers.attack(image, kind, epsilon, victim)
        except VoclabError as error:
            return None, markdown(error), *[None] * 8
        larger = gr.update(value=done.perturbation, label=f"Perturbation × {done.factor}")
        seen = *_shown(done.before), *_shown(done.after), *save(image, done.image, quality)
        return done.image, markdown(done.verdict), done.shown, larger, *seen

    inputs = [pixels, kind, epsilon, victim, quality]
    outputs = [kept, verdict, attacked, change, *before, *after, *saved]
    gr.on([kind.change, epsilon.change, victim.change], run, inputs, outputs, **_MOVED)
    quality.change(save, [pixels, kept, quality], saved, **_MOVED)
    return run, inputs, outputs


def _perturbations(answers: Answers, pixels: gr.State) -> Part:
    scale = gr.Slider(0, 2, 1, step=0.25, label="Strength, times the usual one", elem_id="scale", buttons=[])
    gallery = gr.Gallery(
        label="Perturbed photos with the top class",
        show_label=False,
        columns=3,
        height="auto",
        object_fit="contain",
        format="jpeg",
        buttons=[],
        elem_id="perturbed",
    )
    with gr.Accordion("What a strength counts", open=False):
        counted = (f"- {title}: {STRENGTHS[setting.name]}" for title, setting in CONSISTENCY.items())
        gr.Markdown("\n".join(counted))

    @_nothing_without_a_photo(1)
    def perturb(image, scale):
        return answers.perturbations(image, scale)

    scale.change(perturb, [pixels, scale], gallery, **_MOVED)
    return perturb, [pixels, scale], [gallery]


_TABS = {"What and where": _what_and_where, "Attack": _attack, "Perturbations": _perturbations}

# --- small things ---


def _introduction(answers: Answers) -> str:
    classifier, segmenter = answers.classifier, answers.segmenter
    where = f"; the segmenter **{markdown(segmenter.name)}** says where" if segmenter else ""
    return (
        "# What does the network see?\nUpload or take a photo, or choose an example. The classifier"
        f" **{markdown(classifier.name)}** says which of its {len(classifier.class_names)} classes are in it"
        f"{where}. Photos stay in this program and are deleted when it ends."
    )


def _opened(file: dict | None) -> tuple:
    """The pixels of a file; a sentence where there are none; what is shown in its place; who must answer."""
    path, everybody = file and file["path"], tuple(_TABS)
    if not path:
        return None, gr.skip(), gr.skip(), everybody  # the sentence on the file that was taken away stays
    try:
        pixels = open_photo(path)
    except VoclabError as error:
        return None, f"**{markdown(error)}**", None, everybody
    return pixels, "", gr.skip() if Path(path).suffix.lower() in _BROWSERS else pixels, everybody


def _nothing_without_a_photo(count: int) -> Callable:
    """Make a function of a photo and more return so many times nothing where there is no photo."""

    def decorate(function):
        @wraps(function)
        def call(image, *others):
            return function(image, *others) if image is not None else (None,) * count if count > 1 else None

        return call

    return decorate


def _picture(label: str, form: str = "jpeg", height: int | None = None) -> gr.Image:
    look: dict[str, Any] = {"interactive": False, "buttons": ["fullscreen"], "elem_classes": "picture"}
    return gr.Image(label=label, format=form, height=height, **look)


def _seen(answers: Answers, label: str) -> list:
    """Components for what :func:`_shown` gives: classes, and the overlay of the segmenter."""
    with gr.Column(min_width=180):
        classes = gr.Label(label=label, num_top_classes=3, show_heading=False, elem_classes="seen")
        overlay = _picture("Segmentation", height=180)
        overlay.visible = answers.segmenter is not None
    return [classes, overlay]


def _shown(seen: Seen) -> tuple[dict[str, float], np.ndarray | None]:
    return seen.classes, seen.regions and seen.regions.overlay


def _legend(seen: Seen) -> str:
    """The colours of the segmentation with the share of the photo that each has."""
    if seen.regions is None:
        return ""
    entries = [
        f'<span style="--colour: rgb{colour}">{html(name)} {_percent(share)}</span>'
        for name, colour, share in seen.regions.legend
    ]
    return f'<div class="legend">{"".join(entries) or "Nothing but background."}</div>'


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.005 else "below 1 %"
