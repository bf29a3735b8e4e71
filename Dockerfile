# syntax=docker/dockerfile:1
# The image of escape-scanner, for those who build with docker:
#
#	docker buildx build --platform linux/amd64,linux/arm64 -t escape-scanner .
#
# `make image` makes the same one without docker. The files of both come from
# hack/release, and a test holds what this file says to what that makes.
#
# The version comes from git. Where the context has no .git (a git URL without
# BUILDKIT_CONTEXT_KEEP_GIT_DIR=1, an archive of the sources) it has to be told, by
# --build-arg VERSION=v1.2.3 COMMIT=… DATE=… (of the commit, as RFC 3339).

# The Go of the toolchain line of go.mod: the same Go gives the same bytes. It runs on the
# machine that builds and compiles for the one that is built for.
FROM --platform=$BUILDPLATFORM golang:1.26.8 AS build
WORKDIR /src
COPY go.mod go.sum ./
COPY hack/release/go.mod hack/release/go.sum hack/release/
RUN --mount=type=cache,target=/go/pkg/mod go mod download && go -C hack/release mod download
COPY . .
ARG TARGETOS TARGETARCH
ARG VERSION="" COMMIT="" DATE=""
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go -C hack/release run -trimpath . rootfs -platforms "$TARGETOS/$TARGETARCH" \
    -version "$VERSION" -commit "$COMMIT" -date "$DATE" -o /rootfs

# Nothing but the program, roots of trust, a user and the bill of materials: no shell, no
# package manager, nothing that is written to. It runs with a read-only root.
FROM scratch
ARG VERSION="" COMMIT="" DATE=""
LABEL org.opencontainers.image.title="escape-scanner" \
      org.opencontainers.image.description="Finds out what in a Kubernetes cluster can get out to its host, and what really stops it" \
      org.opencontainers.image.url="https://github.com/escape-scanner/escape-scanner" \
      org.opencontainers.image.source="https://github.com/escape-scanner/escape-scanner" \
      org.opencontainers.image.documentation="https://github.com/escape-scanner/escape-scanner#readme" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$COMMIT" \
      org.opencontainers.image.created="$DATE"
COPY --from=build --chown=0:0 /rootfs/ /
ENV PATH=/usr/bin
WORKDIR /
USER 65532:65532
ENTRYPOINT ["/usr/bin/escape-scanner"]
