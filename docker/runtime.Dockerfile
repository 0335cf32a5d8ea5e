# One bundle and what runs it. The build context is the folder in which the bundle lies:
#   docker build -f docker/runtime.Dockerfile --build-arg BUNDLE=photos-cpu-3f9a41c07d22 -t photos runs/photos/bundles
# TensorRT engines need NVIDIA's image of their version instead:
#   --build-arg BASE=nvcr.io/nvidia/tensorrt:24.08-py3 --build-arg PACKAGES="numpy pillow", and no self-test at the build,
#   where there is no GPU: --build-arg SELF_TEST=0
ARG BASE=python:3.12-slim
FROM ${BASE}
ARG PACKAGES="onnxruntime numpy pillow"
RUN python3 -m pip install --no-cache-dir ${PACKAGES} \
    && useradd --system --no-create-home --shell /usr/sbin/nologin figkd
ARG BUNDLE
COPY ${BUNDLE} /bundle
ARG SELF_TEST=1
RUN if [ "${SELF_TEST}" = 1 ]; then python3 /bundle/run.pyz self-test --unsigned; fi
USER figkd
WORKDIR /tmp
EXPOSE 8000
ENTRYPOINT ["python3", "-B", "/bundle/run.pyz"]
CMD ["info"]
