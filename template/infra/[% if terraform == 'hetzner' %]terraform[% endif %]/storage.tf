# Data outlives its server: a new one finds the volume and mounts it (cloud-init.tf).
resource "hcloud_volume" "data" {
  for_each = local.volume_sizes

  name              = "${local.names[each.key]}-data"
  size              = each.value
  location          = var.location
  format            = "ext4"
  delete_protection = var.protection
  labels            = local.labels[each.key]

  lifecycle {
    prevent_destroy = true
  }
}

resource "hcloud_volume_attachment" "data" {
  for_each = local.volume_sizes

  volume_id = hcloud_volume.data[each.key].id
  server_id = hcloud_server.server[each.key].id
  automount = false # the server mounts it, where Docker keeps its volumes
}

locals {
  volume_devices = { for environment, volume in hcloud_volume.data : environment => volume.linux_device }
}
