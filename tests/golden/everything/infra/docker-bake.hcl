# How the images of this repository are built, from its root:
#   docker buildx bake -f infra/docker-bake.hcl --load        all of them, into the local engine
#   docker buildx bake -f infra/docker-bake.hcl --print       what would be done

variable "IMAGE_REPOSITORY" {
  default = "registry.example.org:5000/harbour/sons"
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
  targets = ["api", "worker", "web", "admin", "back-office", "migrate", "postgres"]
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
  platforms = ["linux/arm64"]
  args = {
    GIT_SHA         = GIT_SHA
    BUILD_TIMESTAMP = BUILD_TIMESTAMP
  }
  labels = {
    "org.opencontainers.image.source"   = "https://github.com/Harbour-Sons/The.Shop"
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
    "org.opencontainers.image.title" = "harbour-sons-api"
  }
  cache-from = cache_from("api")
  cache-to   = cache_to("api")
}

target "worker" {
  inherits   = ["image"]
  dockerfile = "Dockerfile.worker"
  target     = "worker"
  tags       = [tag("worker")]
  labels = {
    "org.opencontainers.image.title" = "harbour-sons-worker"
  }
  cache-from = cache_from("worker")
  cache-to   = cache_to("worker")
}

target "web" {
  inherits   = ["image"]
  dockerfile = "Dockerfile.web"
  target     = "web"
  tags       = [tag("web")]
  labels = {
    "org.opencontainers.image.title" = "harbour-sons-web"
  }
  # Empty when the variable is not set.
  secret = ["id=next_server_actions_key,env=NEXT_SERVER_ACTIONS_ENCRYPTION_KEY"]
  cache-from = cache_from("web")
  cache-to   = cache_to("web")
}

target "admin" {
  inherits   = ["image"]
  dockerfile = "Dockerfile.admin"
  target     = "admin"
  tags       = [tag("admin")]
  labels = {
    "org.opencontainers.image.title" = "harbour-sons-admin"
  }
  # Empty when the variable is not set.
  secret = ["id=next_server_actions_key,env=NEXT_SERVER_ACTIONS_ENCRYPTION_KEY"]
  cache-from = cache_from("admin")
  cache-to   = cache_to("admin")
}

target "back-office" {
  inherits   = ["image"]
  dockerfile = "Dockerfile.back-office"
  target     = "back-office"
  tags       = [tag("back-office")]
  labels = {
    "org.opencontainers.image.title" = "harbour-sons-back-office"
  }
  # Empty when the variable is not set.
  secret = ["id=next_server_actions_key,env=NEXT_SERVER_ACTIONS_ENCRYPTION_KEY"]
  cache-from = cache_from("back-office")
  cache-to   = cache_to("back-office")
}

target "migrate" {
  inherits   = ["image"]
  dockerfile = "Dockerfile.api"
  target     = "migrate"
  tags       = [tag("migrate")]
  labels = {
    "org.opencontainers.image.title" = "harbour-sons-migrate"
  }
  cache-from = cache_from("migrate")
  cache-to   = cache_to("migrate")
}

target "postgres" {
  inherits   = ["image"]
  dockerfile = "infra/pgbackrest/Dockerfile"
  target     = "postgres"
  tags       = [tag("postgres")]
  labels = {
    "org.opencontainers.image.title" = "harbour-sons-postgres"
  }
  cache-from = cache_from("postgres")
  cache-to   = cache_to("postgres")
}
