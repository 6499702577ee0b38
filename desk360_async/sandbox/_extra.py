"""Names the package to install if the extra `sandbox` is missing; imported before the other modules."""

from importlib.util import find_spec


def require(*modules: str) -> None:
    """Check that modules are installed.

    Raises:
        ModuleNotFoundError: if one is missing; the message has the command that installs it.
    """
    for module in modules:
        if find_spec(module) is None:
            msg = f"the sandbox needs {module}: pip install 'desk360-async[sandbox]'"
            raise ModuleNotFoundError(msg, name=module)


require("starlette", "python_multipart")
