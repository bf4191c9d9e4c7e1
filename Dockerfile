# ./run_all.sh with all that it needs; docs/environments.md shows the commands. PyTorch is its build for CPUs, or for
# CUDA with --build-arg TORCH=cuda.
FROM debian:bookworm-slim
ARG TORCH=cpu
# hadolint ignore=DL3008  # Debian keeps no old versions to pin; uv.lock pins all that computes
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates git python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 reader \
    && install --directory --mode 1777 /results /home/reader/hvae-companion --owner reader
USER 1000
WORKDIR /home/reader/hvae-companion
COPY --chown=reader . .
# Bytecode is made now, not by each container anew. uv is needed for this only.
RUN PYTHONDONTWRITEBYTECODE=1 UV_NO_CACHE=1 HVAE_TORCH=$TORCH bash -euc 'source ./setup.sh' \
    && rm -rf .uv "$HOME/.cache" "$HOME/.local"
ENV HVAE_OUTPUT=/results HVAE_DATA=/results/data
ENTRYPOINT ["./run_all.sh"]
CMD ["quick"]
