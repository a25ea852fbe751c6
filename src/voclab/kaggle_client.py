"""The official Kaggle client: its credentials, and its errors as sentences. They are never printed."""

import contextlib
import importlib
import io
import os
import re
from collections.abc import Iterator

import requests

from voclab.errors import VoclabError

_VARIABLES = ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY")
_REMEDY = (
    "create a token on https://www.kaggle.com/settings and put it into ~/.kaggle/kaggle.json,"
    " KAGGLE_USERNAME and KAGGLE_KEY, or KAGGLE_API_TOKEN (variables, or secrets of a Colab notebook)"
)


def kaggle_api():
    """The authenticated ``KaggleApi`` of the official client.

    Credentials are looked for where the client does: in the variables ``KAGGLE_API_TOKEN`` or
    ``KAGGLE_USERNAME`` and ``KAGGLE_KEY``, then in ``~/.kaggle/`` (or ``KAGGLE_CONFIG_DIR``); and, where
    there are none, in the secrets of the same names of a Colab notebook, which the client does not know.

    The client is imported here and not before: without credentials its import ends the process in some
    versions, asks the network in others and prints a page of help in most.

    Raises:
        VoclabError: the client is not installed, finds no credentials, Kaggle refuses them or cannot be
            reached.
    """
    try:
        try:
            return _authenticated()
        except (SystemExit, OSError, ValueError) as error:
            if isinstance(error, requests.RequestException):
                raise
            secrets, why_not = _colab_secrets()
            if not secrets:
                raise _no_credentials(why_not) from error
            with _variables(secrets):
                return _authenticated()
    except ImportError as error:
        raise VoclabError("The kaggle client is not installed; run `pip install kaggle`.") from error
    except requests.HTTPError as error:
        status, _ = answered(error)
        if status < 500:
            raise _refused_credentials() from error
        raise VoclabError(f"Kaggle answered {status} to the credentials; try again later.") from error
    except requests.RequestException as error:
        raise VoclabError(f"Kaggle cannot be reached ({reason(error)}); check the network.") from error
    except (SystemExit, OSError, ValueError) as error:  # with the secrets
        raise _refused_credentials() from error


def check_competition(competition: str) -> str:
    """The address of a competition; ``VoclabError`` if its name cannot be one."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", competition):
        raise VoclabError(
            f"{competition!r} is no competition; name the last part of its address, such as"
            " kul-computer-vision-ga-2-2026."
        )
    return f"https://www.kaggle.com/competitions/{competition}"


def refusal(error: requests.HTTPError, competition: str) -> VoclabError:
    """The sentence for an error that Kaggle answered to a request about a competition."""
    status, message = answered(error)
    address = check_competition(competition)
    said = f" (“{message}”)" if message else ""
    if status == 401:
        return _refused_credentials()
    if status == 403:
        remedy = "join the competition and accept the rules there, with the account of the credentials"
    elif status == 404:
        remedy = "check the name of the competition"
    elif status in (408, 429) or status >= 500:
        remedy = "try again later"
    else:
        remedy = "mend what it names"
    return VoclabError(f"Kaggle answered {status} for {address}{said}; {remedy}.")


def answered(error: requests.HTTPError) -> tuple[int, str]:
    """Status and message of Kaggle's answer; the client also raises for an error inside a 200."""
    response = error.response
    if response is None:
        return 0, ""
    try:
        body = response.json()
    except ValueError:
        body = {}
    body = body if isinstance(body, dict) else {}
    code, message = body.get("code"), body.get("message")
    message = " ".join(message.split()).rstrip(".")[:200] if isinstance(message, str) else ""
    status = code if isinstance(code, int) and response.ok else response.status_code
    return status, message


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what the client and its libraries print (advice, addresses) off the screen."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def reason(error: Exception) -> str:
    """One short phrase for an exception: its name in words, since requests nests several."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?=[A-Z][a-z])", " ", type(error).__name__).strip("_ ").lower()


def _authenticated():
    with quiet():
        from kaggle.api.kaggle_api_extended import KaggleApi

        api = KaggleApi()
        api.authenticate()
    return api


def _colab_secrets() -> tuple[dict[str, str], str]:
    """Credentials among a Colab notebook's secrets; else none, and why not."""
    try:
        userdata = importlib.import_module("google.colab.userdata")
    except ImportError:
        return {}, ""
    found, why_not = {}, []
    for name in _VARIABLES:
        try:
            found[name] = userdata.get(name)
        except Exception as error:  # missing, not granted, no notebook: each its own class, of Colab only
            why_not.append(f"{name}: {reason(error)}")
    if found.get("KAGGLE_API_TOKEN") or (found.get("KAGGLE_USERNAME") and found.get("KAGGLE_KEY")):
        return {name: value for name, value in found.items() if value}, ""
    return {}, f", nor among Colab's secrets ({', '.join(why_not)})"


@contextlib.contextmanager
def _variables(values: dict[str, str]) -> Iterator[None]:
    """Environment variables for the length of the block: later programs must not inherit a secret."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _no_credentials(why_not: str) -> VoclabError:
    if os.environ.get("KAGGLE_API_TOKEN"):  # the client passes over a token that Kaggle does not know
        return _refused_credentials()
    return VoclabError(f"The kaggle client found no credentials{why_not}; {_REMEDY}.")


def _refused_credentials() -> VoclabError:
    return VoclabError(f"Kaggle does not accept the credentials (wrong, or expired); {_REMEDY}.")
