"""Names the package to install if the extra `sandbox` is missing; imported before its dependents."""

from importlib.util import find_spec


def require(*modules: str) -> None:
    """Check that modules are installed; ModuleNotFoundError names the command that installs them."""
    for module in modules:
        if find_spec(module) is None:
            msg = f"the sandbox needs {module}: pip install 'desk360-async[sandbox]'"
            raise ModuleNotFoundError(msg, name=module)


require("starlette", "python_multipart")
