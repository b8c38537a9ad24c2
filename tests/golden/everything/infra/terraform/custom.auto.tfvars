# Yours: values that win over terraform.tfvars. No update touches this file. It is committed, so: no secrets.

# Who may log in when a server is made: name = public key. Terraform refuses to plan while this is empty.
ssh_public_keys = {
  # anna = "ssh-ed25519 AAAA… anna@example.com"
}

# Flavors with arm64, if OVHcloud sells them by now.
# server_types = { staging = "", production = "" }
