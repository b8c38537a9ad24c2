output "addresses" {
  description = "Addresses of each server: public ones for DNS, the private one for its neighbours."
  value       = local.addresses
}

output "firewalls" {
  description = "Names of the firewalls that infra/bin/firewall opens and closes."
  value       = local.names
}

output "volumes" {
  description = "Device of each volume, for mount-data-volume."
  value       = local.volume_devices
}

output "ansible_inventory" {
  description = "An inventory for Ansible, as YAML: a group for each environment with its host."
  value = yamlencode({
    all = {
      children = {
        for environment in var.environments : environment => {
          hosts = {
            (environment) = {
              ansible_host = local.addresses[environment].ipv4
              ansible_user = "admin"
              private_ip   = local.addresses[environment].private
            }
          }
        }
      }
    }
  })
}
