"""The official Kaggle client: its credentials, which are never printed, and its errors as sentences."""

import base64
import contextlib
import importlib
import io
import os
import re
from collections.abc import Iterator

import requests

from voclab.data.download import reason
from voclab.errors import VoclabError
from voclab.files import writing_error
from voclab.text import plain

_VARIABLES = ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY")
_CREDENTIALS = re.compile(r"KGAT_[\w.-]+|(?<=\bBearer )\S+|(?<=\bBasic )\S{8,}", re.IGNORECASE)
_LONGEST = 200  # letters of Kaggle's that are shown
_secrets: set[str] = set()  # keys and tokens that the client was given in this process
_REMEDY = (
    "create a token on https://www.kaggle.com/settings and put it into ~/.kaggle/kaggle.json (as it is"
    " downloaded), into KAGGLE_USERNAME and KAGGLE_KEY, or into KAGGLE_API_TOKEN (variables, or secrets of a"
    " Colab notebook that it may read)"
)
_REMEDIES = {
    401: _REMEDY,
    403: "join the competition and accept its rules, with the account of the credentials",
    404: "check the name of the competition",
}


class Refused(VoclabError):
    """Kaggle certainly did not do what it was asked for."""


def kaggle_api():
    """The authenticated ``KaggleApi`` of the official client.

    Credentials are looked for where the client does (``KAGGLE_API_TOKEN``, or ``KAGGLE_USERNAME`` and
    ``KAGGLE_KEY``, then ``~/.kaggle/`` or ``KAGGLE_CONFIG_DIR``), and where there are none, in the secrets of
    the same names of a Colab notebook.

    The client is imported here and not before: without credentials its import ends the process in some
    versions, asks the network in others and prints a page of help in most.

    Raises:
        VoclabError: the client is not installed, finds no credentials that can be used, or Kaggle cannot be
            reached.
    """
    for secrets in (dict, _colab_secrets):
        given = {name: value for name, value in secrets().items() if value and name not in os.environ}
        os.environ.update(given)
        try:
            with quiet():
                from kaggle.api.kaggle_api_extended import KaggleApi

                api = KaggleApi()
                api.authenticate()
        except ImportError:
            raise VoclabError("The kaggle client is not installed; run `pip install kaggle`.") from None
        except (requests.ConnectionError, requests.Timeout) as error:
            raise _unreachable(error) from None
        except (SystemExit, Exception):  # each version has its own for credentials that are missing or wrong
            continue
        finally:
            for name in given:  # programs started later must not inherit a secret
                del os.environ[name]
        name, key, token = (api.config_values.get(field) for field in ("username", "key", "token"))
        # The client takes a kaggle.json as it is: without a key, or with a number for one.
        if token or all(isinstance(value, str) and value.strip() for value in (name, key)):
            _secrets.update(str(secret) for secret in (key, token) if secret)
            _secrets.add(base64.b64encode(f"{name}:{key}".encode()).decode())
            return api
    raise VoclabError(f"The kaggle client found no credentials that can be used; {_REMEDY}.")


def check_competition(competition: str) -> str:
    """The address of a competition; ``VoclabError`` if its name cannot be one."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", competition):
        raise VoclabError(
            f"{competition!r} is no competition; name the last part of its address, such as"
            " kul-computer-vision-ga-2-2026."
        )
    return f"https://www.kaggle.com/competitions/{competition}"


@contextlib.contextmanager
def asking(competition: str, show: bool = False) -> Iterator[None]:
    """Ask the client something about a competition in the block; what it raises becomes a ``VoclabError``.

    Its own error is not chained to it: a traceback would show what the server said, key and all. With
    ``show`` the client may print.

    Raises:
        Refused: Kaggle answered with a status of 400 to 499, but not because it is busy.
    """
    address = check_competition(competition)
    try:
        with contextlib.nullcontext() if show else quiet():
            yield
    except requests.HTTPError as error:
        status, message = _answer(error)
        said = f" (“{message}”)" if message else ""
        remedy = _REMEDIES.get(status, "correct what it names, or try again later")
        kind = Refused if status in range(400, 500) and status not in (408, 429) else VoclabError
        raise kind(f"Kaggle answered {status} for {address}{said}; {remedy}.") from None
    except requests.RequestException as error:
        raise _unreachable(error) from None
    except OSError as error:
        raise writing_error(error.filename or "the download", error) from None
    except VoclabError:
        raise
    except Exception as error:  # the client takes an answer apart without looking
        raise VoclabError(
            f"Kaggle's answer about {address} has a form that the kaggle client does not know"
            f" ({reason(error)}); try again, or update it with `pip install --upgrade kaggle`."
        ) from None


def clean(value: object) -> str:
    """A value of Kaggle's answers as one short line: printable, and without any key or token."""
    text = "" if value is None else " ".join(plain(value).split())
    for secret in sorted(_secrets, key=len, reverse=True):
        if len(secret) > 3:
            text = re.sub(re.escape(secret.rstrip("=")) + "=*", "***", text, flags=re.IGNORECASE)
    return _CREDENTIALS.sub("***", text)[:_LONGEST]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what the client and its libraries print (advice, addresses) off the screen."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _answer(error: requests.HTTPError) -> tuple[int, str]:
    """Status and message of Kaggle's answer; the client also raises for an error inside a 200."""
    status = getattr(error.response, "status_code", 0)
    try:
        body = error.response.json()
        code, message = body.get("code"), body.get("message")
    except (AttributeError, ValueError, RecursionError):  # no answer, or of another form
        return status, ""
    status = code if status == 200 and isinstance(code, int) else status
    return status, clean(message).rstrip(".") if isinstance(message, str) else ""


def _unreachable(error: Exception) -> VoclabError:
    return VoclabError(f"Kaggle cannot be reached ({reason(error)}); check the network.")


def _colab_secrets() -> dict[str, str]:
    """Credentials among a Colab notebook's secrets."""
    found = {}
    with contextlib.suppress(ImportError):
        userdata = importlib.import_module("google.colab.userdata")
        for name in _VARIABLES:
            with contextlib.suppress(Exception):  # missing, not granted: each its own class, of Colab only
                found[name] = userdata.get(name)
    return found
