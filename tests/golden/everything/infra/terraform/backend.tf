# The state lies in object storage and is locked there while somebody works on it. Bucket, region and endpoint stand in
# backend.hcl; the keys come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SSE_CUSTOMER_KEY, never from a file.
terraform {
  backend "s3" {
    key          = "harbour-sons/terraform.tfstate"
    use_lockfile = true
    # With AWS_SSE_CUSTOMER_KEY set, the storage encrypts with that key and forgets it (SSE-C).
    encrypt = true

    # Storage other than Amazon's has no accounts, metadata service or regions that Terraform knows.
    skip_credentials_validation = true
    skip_metadata_api_check     = true
    skip_region_validation      = true
    skip_requesting_account_id  = true
    skip_s3_checksum            = true
    use_path_style              = true
  }
}
