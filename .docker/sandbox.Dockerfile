# The sandbox in a container: docker build -f .docker/sandbox.Dockerfile -t desk360-sandbox .
#                             docker run --rm -p 127.0.0.1:8360:8360 desk360-sandbox
FROM python:3.13-slim

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY desk360_async ./desk360_async
RUN pip install --no-cache-dir '.[cli]' && useradd --create-home sandbox

USER sandbox
WORKDIR /home/sandbox
EXPOSE 8360
# In a container each client is another machine. `sandbox` is the service's name in a compose file; requests that
# name another host get 421.
ENTRYPOINT ["desk360", "sandbox", "--host", "0.0.0.0", "--allow-remote", "--allow-host", "sandbox"]
