# A network for each environment: Hetzner's firewall does not filter private networks, so that a neighbour in it is trusted.
resource "hcloud_network" "private" {
  for_each = var.environments

  name              = local.names[each.key]
  ip_range          = var.private_networks[each.key]
  delete_protection = var.protection
  labels            = local.labels[each.key]
}

resource "hcloud_network_subnet" "private" {
  for_each = var.environments

  network_id   = hcloud_network.private[each.key].id
  type         = "cloud"
  network_zone = var.network_zone
  ip_range     = var.private_networks[each.key]
}

resource "hcloud_server_network" "server" {
  for_each = var.environments

  server_id = hcloud_server.server[each.key].id
  subnet_id = hcloud_network_subnet.private[each.key].id
  ip        = local.private_addresses[each.key]
}
