# Addresses of their own: DNS stays right when a server is made anew.
resource "hcloud_primary_ip" "ipv4" {
  for_each = var.environments

  name              = "${local.names[each.key]}-ipv4"
  type              = "ipv4"
  location          = var.location
  auto_delete       = false
  delete_protection = var.protection
  labels            = local.labels[each.key]

  lifecycle {
    prevent_destroy = true
  }
}

resource "hcloud_primary_ip" "ipv6" {
  for_each = var.environments

  name              = "${local.names[each.key]}-ipv6"
  type              = "ipv6"
  location          = var.location
  auto_delete       = false
  delete_protection = var.protection
  labels            = local.labels[each.key]

  lifecycle {
    prevent_destroy = true
  }
}

resource "hcloud_rdns" "ipv4" {
  for_each = var.environments

  primary_ip_id = hcloud_primary_ip.ipv4[each.key].id
  ip_address    = hcloud_primary_ip.ipv4[each.key].ip_address
  dns_ptr       = var.hostnames[each.key]
}

# Hetzner gives a /64; the server takes its first address.
resource "hcloud_rdns" "ipv6" {
  for_each = var.environments

  primary_ip_id = hcloud_primary_ip.ipv6[each.key].id
  ip_address    = cidrhost(hcloud_primary_ip.ipv6[each.key].ip_network, 1)
  dns_ptr       = var.hostnames[each.key]
}

locals {
  addresses = {
    for environment in var.environments : environment => {
      ipv4    = hcloud_primary_ip.ipv4[environment].ip_address
      ipv6    = cidrhost(hcloud_primary_ip.ipv6[environment].ip_network, 1)
      private = hcloud_server_network.server[environment].ip
    }
  }
}
