# What a server does at its first boot: an administrator who can log in, and the volume in its place. Everything else is
# done by what comes after (README.md). A later change here reaches new servers only.
locals {
  mount_script = "/usr/local/sbin/mount-data-volume"

  user_data = {
    for environment in var.environments : environment => join("\n", ["#cloud-config", yamlencode({
      fqdn       = var.hostnames[environment]
      ssh_pwauth = false

      users = ["default", {
        name                = "admin"
        shell               = "/bin/bash"
        lock_passwd         = true
        ssh_authorized_keys = values(var.ssh_public_keys)
      }]

      write_files = concat(
        [{
          path        = "/etc/sudoers.d/10-admin"
          permissions = "0440"
          content     = "admin ALL=(ALL:ALL) NOPASSWD: ALL\n"
        }],
        contains(keys(local.volume_sizes), environment) ? [{
          path        = local.mount_script
          permissions = "0755"
          content     = file("${path.module}/mount-data-volume.sh")
          }, {
          # Without its volume Docker would write to the server's disk, and nobody would notice.
          path        = "/etc/systemd/system/docker.service.d/data-volume.conf"
          permissions = "0644"
          content     = "[Unit]\nRequiresMountsFor=/var/lib/docker/volumes\n"
        }] : []
      )

      runcmd = contains(keys(local.volume_sizes), environment) ? [[local.mount_script, local.volume_devices[environment]]] : []
    })])
  }
}
