# What every file here names things by. One server for each environment, each with a network of its own.
locals {
  names = { for environment in var.environments : environment => "${var.project}-${environment}" }

  labels = {
    for environment in var.environments : environment => {
      project     = var.project
      environment = environment
      managed-by  = "terraform"
    }
  }

  # Environments that have a volume for their data.
  volume_sizes = { for environment, size in var.volume_sizes : environment => size if size > 0 && contains(var.environments, environment) }

  everywhere = ["0.0.0.0/0", "::/0"]

  # The first address that is the provider's neither for its gateway nor for its own services.
  private_addresses = { for environment in var.environments : environment => cidrhost(var.private_networks[environment], 10) }
}
