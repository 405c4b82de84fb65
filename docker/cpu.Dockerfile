# spikefloss on CPUs. In the folder of a clone:
#   docker build -f docker/cpu.Dockerfile -t spikefloss:cpu --build-arg COMMIT="$(git describe --always --dirty)" .
# Stages: build (compilers, not kept); run (what training needs; --target run); test (run and the test suite; the default).
# docs/containers.md describes the use of the image.
ARG BASE_IMAGE=debian:12
ARG RUNTIME_IMAGE=debian:12-slim

FROM ${BASE_IMAGE} AS build
WORKDIR /opt/spikefloss
COPY launch/install_packages launch/packages launch/
RUN launch/install_packages
COPY CMakeLists.txt CMakePresets.json ./
COPY cmake/ cmake/
COPY src/ src/
COPY cuda/ cuda/
COPY tests/ tests/
COPY launch/ launch/
# The image has no git repository, so COMMIT gives the version.
ARG COMMIT=unknown
# Jobs of the build; by default as many as cores and memory allow.
ARG CMAKE_BUILD_PARALLEL_LEVEL
ENV PRESET=cpu-release
RUN cmake --preset $PRESET -DSPIKEFLOSS_CUDA=OFF -DSPIKEFLOSS_BENCH=OFF -DSPIKEFLOSS_COMMIT="$COMMIT" \
    && launch/build
COPY docker/ docker/
# The next stages copy these: the program without symbols, the tests with symbols (reports of the emulated device name
# kernels by their symbols), the lists of ctest and of packages.
RUN cd build/$PRESET && mkdir -p /out/tests /out/bin \
    && find . -name CTestTestfile.cmake -exec cp --parents -t /out/tests {} + \
    && find . -name CMakeFiles -prune -o -type f -perm -u=x ! -path ./spikefloss -print | xargs cp --parents -t /out/tests \
    && strip -o /out/bin/spikefloss spikefloss \
    && ../../docker/libraries spikefloss >/out/packages && cat ../../docker/packages >>/out/packages

FROM ${RUNTIME_IMAGE} AS run
ARG RUNTIME_IMAGE
ARG COMMIT=unknown
LABEL org.opencontainers.image.title="spikefloss (cpu)" \
      org.opencontainers.image.description="Trains recurrent spiking networks with surrogate gradient flossing, on CPUs" \
      org.opencontainers.image.revision="$COMMIT" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="$RUNTIME_IMAGE"
WORKDIR /opt/spikefloss
COPY launch/install_packages launch/
COPY --from=build /out/packages docker/packages
RUN launch/install_packages docker/packages \
    && apt-get clean && rm -rf build /var/lib/apt/lists/*
# Any user of the container (docker run --user) may write in /work and read all files, also after a strict umask.
RUN groupadd --gid 10001 spikefloss \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp spikefloss \
    && install --directory --mode 1777 /work
COPY --from=build /out/bin/spikefloss /usr/local/bin/spikefloss
COPY launch/mpirun.sh launch/
COPY launch/mpirun/ launch/mpirun/
COPY docker/entrypoint docker/
COPY configs/ /work/configs/
RUN chmod -R a+rX /opt/spikefloss /work/configs \
    && if ldd /usr/local/bin/spikefloss | grep 'not found'; then exit 1; fi
# There may be more ranks than cores, and each rank has its own threads. A container may not read the memory of another
# process (the "single copy" of Open MPI's shared memory). Idle threads release their core soon. Any user can write HOME.
ENV OMPI_MCA_rmaps_base_oversubscribe=1 \
    OMPI_MCA_hwloc_base_binding_policy=none \
    OMPI_MCA_btl_vader_single_copy_mechanism=none \
    OMPI_MCA_btl_base_warn_component_unused=0 \
    GOMP_SPINCOUNT=20000 \
    HOME=/tmp
USER 10001:10001
WORKDIR /work
# `docker stop`: finish the step, write a checkpoint, exit code 85.
STOPSIGNAL SIGUSR1
ENTRYPOINT ["/opt/spikefloss/docker/entrypoint"]
CMD ["--help"]

FROM run AS test
USER root
WORKDIR /opt/spikefloss
COPY docker/packages_for_tests docker/
RUN launch/install_packages docker/packages_for_tests \
    && apt-get clean && rm -rf build /var/lib/apt/lists/*
COPY . .
RUN chmod -R a+rX .
COPY --from=build /out/tests/ build/cpu-release/
RUN ln -s /usr/local/bin/spikefloss build/cpu-release/spikefloss
USER 10001:10001
WORKDIR /work
