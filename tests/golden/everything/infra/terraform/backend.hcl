# Where the state lies: terraform init -backend-config=backend.hcl. This file is yours: no update touches it. No keys here.
bucket = "harbour-sons-terraform"
region = "gra"

endpoints = {
  s3 = "https://s3.gra.io.cloud.ovh.net"
}
