# How the images of this repository are built, from its root:
#   docker buildx bake -f infra/docker-bake.hcl --load        all of them, into the local engine
#   docker buildx bake -f infra/docker-bake.hcl --print       what would be done
#   docker buildx bake -f infra/docker-bake.hcl migrations    infra/migrations/migrate.sql

variable "IMAGE_REPOSITORY" {
  default = "ghcr.io/harbour/shop"
}

# Commit that is built; the tag of every image.
variable "GIT_SHA" {
  default = "local"
}

# Time of the build as RFC 3339.
variable "BUILD_TIMESTAMP" {
  default = timestamp()
}

# GitHub sets it. There, layers are kept in its cache, and each image gets attestations, which the engine's own builder
# cannot make.
variable "GITHUB_ACTIONS" {
  default = "false"
}

group "default" {
  targets = ["api"]
}

function "tag" {
  params = [name]
  result = "${IMAGE_REPOSITORY}-${name}:${GIT_SHA}"
}

# Images of one Dockerfile share a scope.
function "cache_from" {
  params = [scope]
  result = GITHUB_ACTIONS == "true" ? ["type=gha,scope=${scope}"] : []
}

function "cache_to" {
  params = [scope]
  result = GITHUB_ACTIONS == "true" ? ["type=gha,scope=${scope},mode=max,ignore-error=true"] : []
}

target "image" {
  context   = "."
  platforms = ["linux/amd64"]
  args = {
    GIT_SHA         = GIT_SHA
    BUILD_TIMESTAMP = BUILD_TIMESTAMP
  }
  labels = {
    "org.opencontainers.image.source"   = "https://github.com/harbour/shop"
    "org.opencontainers.image.revision" = GIT_SHA
    "org.opencontainers.image.created"  = BUILD_TIMESTAMP
  }
  # How the image was made and what is in it, kept beside it in the registry.
  attest = GITHUB_ACTIONS == "true" ? [
    "type=provenance,mode=max",
    "type=sbom,generator=docker.io/docker/buildkit-syft-scanner:1",
  ] : []
}

target "api" {
  inherits   = ["image"]
  dockerfile = "Dockerfile.api"
  target     = "api"
  tags       = [tag("api")]
  labels = {
    "org.opencontainers.image.title" = "harbour-shop-api"
  }
  cache-from = cache_from("api")
  cache-to   = cache_to("api")
}

# The release's schema changes as one idempotent script, for a person to read.
target "migrations" {
  context    = "."
  dockerfile = "Dockerfile.api"
  target     = "migrations"
  output     = ["type=local,dest=infra/migrations"]
  cache-from = cache_from("api")
}
