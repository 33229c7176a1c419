# The sample backend with migrate_ext. No compiler and no root in the image that runs.

FROM python:3.13-slim AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev libpq-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE ./
COPY csrc csrc
COPY migrate_ext migrate_ext
COPY scripts/migrate-ext scripts/migrate-ext
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.13-slim
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# psycopg's binary wheel brings the libpq that the core loads when it connects.
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    wheel=$(ls /wheels/migrate_ext-*.whl) \
    && pip install --no-cache-dir "migrate-ext[psycopg] @ file://$wheel"
RUN useradd --system --uid 10001 --no-create-home app
WORKDIR /app
COPY alembic.ini env.py script.py.mako ./
COPY lib lib
COPY models models
COPY versions versions
COPY scripts/migrate.py scripts/migrate.py
# The SQL of the constant migrations, rendered now instead of at each start.
RUN python scripts/migrate.py compile
USER app
# The sample has migrations only; a real backend starts its server here, once `upgrade head` has run.
CMD ["python", "scripts/migrate.py", "upgrade", "head"]
