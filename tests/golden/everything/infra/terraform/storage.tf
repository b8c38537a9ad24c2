# Data outlives its server: a new one finds the volume and mounts it (cloud-init.tf).
resource "openstack_blockstorage_volume_v3" "data" {
  for_each = local.volume_sizes

  name        = "${local.names[each.key]}-data"
  region      = var.region
  size        = each.value
  volume_type = var.volume_type
  metadata    = local.labels[each.key]

  enable_online_resize = true

  lifecycle {
    prevent_destroy = true
  }
}

resource "openstack_compute_volume_attach_v2" "data" {
  for_each = local.volume_sizes

  region      = var.region
  instance_id = openstack_compute_instance_v2.server[each.key].id
  volume_id   = openstack_blockstorage_volume_v3.data[each.key].id
}

locals {
  # What the kernel calls a disk of KVM: the beginning of its identifier.
  volume_devices = { for environment, volume in openstack_blockstorage_volume_v3.data : environment => "/dev/disk/by-id/virtio-${substr(volume.id, 0, 20)}" }
}
