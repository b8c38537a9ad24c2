resource "hcloud_ssh_key" "admin" {
  for_each = var.ssh_public_keys

  name       = "${var.project}-${each.key}"
  public_key = each.value
  labels     = { project = var.project, managed-by = "terraform" }
}

resource "hcloud_server" "server" {
  for_each = var.environments

  name        = local.names[each.key]
  server_type = var.server_types[each.key]
  image       = var.image
  location    = var.location
  ssh_keys    = [for key in hcloud_ssh_key.admin : key.id]
  user_data   = local.user_data[each.key]
  labels      = local.labels[each.key]

  # Both are there before the first boot: the server never stands in the internet without them.
  firewall_ids = local.firewall_ids[each.key]

  public_net {
    ipv4 = hcloud_primary_ip.ipv4[each.key].id
    ipv6 = hcloud_primary_ip.ipv6[each.key].id
  }

  backups                  = var.backups[each.key]
  keep_disk                = true # so that a larger type can be taken back
  shutdown_before_deletion = true
  delete_protection        = var.protection
  rebuild_protection       = var.protection

  lifecycle {
    # Terraform refuses before it takes anything apart; Hetzner's own protection is for everybody else.
    prevent_destroy = true
    # A change of these would make the server anew. That is done on purpose, see README.md.
    ignore_changes = [image, ssh_keys, user_data]
  }
}
