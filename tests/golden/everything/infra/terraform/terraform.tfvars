# Values that follow from the answers. Your own go into custom.auto.tfvars, which wins over this file. No secrets here.
project      = "harbour-sons"
architecture = "arm64"

admin_networks = [
  "203.0.113.7/32",
  "2001:db8:12::/48",
]

# infra/bin/firewall opens SSH for the time of a deploy.
temporary_rules = false

hostnames = {
  staging    = "api.staging.example.net"
  production = "api.harbour-sons.example.org"
}

# GB for Docker's volumes; 0 is none.
volume_sizes = {
  staging    = 10
  production = 40
}

# OVHcloud's Public Cloud sells no arm64 servers that the template knows of: name the flavor in custom.auto.tfvars.
