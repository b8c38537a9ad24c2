variable "location" {
  description = "Where everything stands: fsn1, nbg1, hel1, …"
  type        = string
  default     = "fsn1"
}

variable "network_zone" {
  description = "Zone of the location's private networks."
  type        = string
  default     = "eu-central"
}

variable "image" {
  description = "Image of new servers. A server that exists keeps what it was made from."
  type        = string
  default     = "debian-13"
}

variable "server_types" {
  description = "Size of each server. Types with arm64 begin with cax."
  type        = map(string)

  validation {
    condition     = alltrue([for type in values(var.server_types) : startswith(type, "cax") == (var.architecture == "arm64")])
    error_message = "The images are built for another processor: servers of type cax… have arm64, all others amd64."
  }
}

variable "backups" {
  description = "Whether Hetzner backs the server's disk up daily. Volumes are not part of that."
  type        = map(bool)
}

variable "protection" {
  description = "Whether Hetzner refuses to delete or rebuild servers, addresses, networks and volumes. Switch it off, apply, then destroy."
  type        = bool
  default     = true
}
