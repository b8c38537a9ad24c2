variable "project" {
  description = "Short name of the project: begins every name."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9]*(-[a-z0-9]+)*$", var.project))
    error_message = "Use lower-case letters, digits and single hyphens, starting with a letter."
  }
}

variable "environments" {
  description = "The environments that this state holds. One of them alone, when each has a project of its own at the provider."
  type        = set(string)
  default     = ["staging", "production"]

  validation {
    condition     = length(var.environments) > 0 && length(setsubtract(var.environments, ["staging", "production"])) == 0
    error_message = "The environments are staging and production, or one of them."
  }
}

variable "architecture" {
  description = "Processor of the servers: amd64 or arm64."
  type        = string

  validation {
    condition     = contains(["amd64", "arm64"], var.architecture)
    error_message = "The architecture is amd64 or arm64."
  }
}

variable "admin_networks" {
  description = "Networks that may open SSH, in CIDR notation."
  type        = list(string)

  validation {
    condition     = length(var.admin_networks) > 0 && alltrue([for network in var.admin_networks : can(cidrhost(network, 0))])
    error_message = "Name at least one network, each as address/prefix, for example 203.0.113.7/32."
  }

  validation {
    # The same limits as the template's own question: nobody's administrators come from everywhere.
    condition = alltrue([
      for network in var.admin_networks :
      try(tonumber(split("/", network)[1]), 0) >= (strcontains(network, ":") ? 19 : 8)
    ])
    error_message = "That is a large part of the internet: name the networks that administrators really come from, never 0.0.0.0/0 or ::/0."
  }
}

variable "temporary_rules" {
  description = "Whether infra/bin/firewall opens SSH for the time of a deploy."
  type        = bool
}

variable "ssh_public_keys" {
  description = "Who may log in when a server is made: name and public key. Later keys are a matter of what is inside the server."
  type        = map(string)

  validation {
    condition     = length(var.ssh_public_keys) > 0
    error_message = "Write at least one public key into custom.auto.tfvars: without it nobody could log in."
  }

  validation {
    condition = alltrue([
      for key in values(var.ssh_public_keys) :
      can(regex("^(ssh-ed25519|sk-ssh-ed25519@openssh\\.com|ecdsa-sha2-nistp[0-9]+|ssh-rsa) [A-Za-z0-9+/]+=*( .*)?$", key))
    ])
    error_message = "A public key looks like: ssh-ed25519 AAAA… name (the content of a file that ends in .pub)."
  }
}

variable "hostnames" {
  description = "Full host name of each server, also for its reverse DNS."
  type        = map(string)
}

variable "volume_sizes" {
  description = "GB of the volume for each environment's data; 0 for none."
  type        = map(number)

  validation {
    condition     = alltrue([for size in values(var.volume_sizes) : size == 0 || (size >= 10 && size <= 10240)])
    error_message = "A volume has 10 to 10240 GB, or 0 for none."
  }
}

variable "private_networks" {
  description = "Private network of each environment. They must not overlap with 10.201.0.0/16, which Docker uses."
  type        = map(string)
  default = {
    staging    = "10.10.0.0/24"
    production = "10.20.0.0/24"
  }

  validation {
    condition     = alltrue([for network in values(var.private_networks) : can(cidrhost(network, 10)) && !startswith(network, "10.201.")])
    error_message = "A private network is written as address/prefix, has at least 16 addresses, and is outside 10.201.0.0/16."
  }
}
