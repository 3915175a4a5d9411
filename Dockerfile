# Two small images of one build: `docker build .` makes Marvain's services, `docker build --target satellite .` the
# daemon for devices alone.
FROM python:3.13-slim-trixie AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# All that the lock pins, each file held to its hash; what the services do not need at run time stays in this stage.
COPY requirements.lock ./
RUN python -m pip wheel -q --require-hashes --no-deps --wheel-dir /wheels -r requirements.lock \
    && python -m pip install -q --no-index --find-links /wheels setuptools wheel
# Before the sources, so that a change of those does not install all this again.
COPY pyproject.toml ./
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
        | grep -v '^marvain-' >needs.txt \
    && python -m venv --without-pip /opt/marvain \
    && python -m pip --python /opt/marvain/bin/python install -q --no-index --find-links /wheels -r needs.txt
COPY hub_protocol hub_protocol
COPY satellite_agent satellite_agent
RUN python -m pip wheel -q --no-build-isolation --no-deps --wheel-dir /wheels ./hub_protocol ./satellite_agent \
    && python -m venv --without-pip /opt/satellite \
    && python -m pip --python /opt/satellite/bin/python install -q --no-index --find-links /wheels marvain-satellite
COPY README.md ./
COPY sql sql
COPY hub hub
COPY broker broker
COPY web web
COPY marvain marvain
RUN python -m pip wheel -q --no-build-isolation --no-deps --wheel-dir /wheels . \
    && python -m pip --python /opt/marvain/bin/python install -q --no-index --find-links /wheels marvain

FROM python:3.13-slim-trixie AS runtime
# PostgreSQL's initdb wants its user to have a name.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/marvain --shell /usr/sbin/nologin marvain
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

FROM runtime AS satellite
COPY --from=build /opt/satellite /opt/satellite
COPY deploy/keep_token.py /opt/deploy/
RUN install -d -o marvain -g marvain -m 0700 /var/lib/marvain
ENV PATH=/opt/satellite/bin:$PATH \
    MARVAIN_SATELLITE_STATE_DIR=/var/lib/marvain \
    MARVAIN_SATELLITE_TOKEN_FILE=/var/lib/marvain/token
USER 10001:10001
CMD ["marvain-satellite", "run"]

FROM runtime AS marvain
COPY --from=build /opt/marvain /opt/marvain
COPY deploy/*.py /opt/deploy/
# A new named volume takes owner and mode from the folder on which it is mounted first.
RUN install -d -o marvain -g marvain -m 0700 /var/lib/marvain /var/lib/marvain/broker \
    && install -d -o marvain -g marvain -m 0711 /var/lib/marvain/secrets
ENV PATH=/opt/marvain/bin:$PATH MARVAIN_DATA=/var/lib/marvain
USER 10001:10001
CMD ["marvain", "up", "--host", "0.0.0.0"]
