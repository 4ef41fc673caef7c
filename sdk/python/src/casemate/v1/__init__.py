"""Generated from proto/casemate/v1 by scripts/generate-sdk.sh."""
