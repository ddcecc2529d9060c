#!/bin/sh -e
# Create the bucket and the users of MinIO, with root keys; again after each upgrade, which also applies changed keys.
# Keys are read from files, and passed to mc in its standard input or its configuration, never as arguments.
export MC_CONFIG_DIR="${MC_CONFIG_DIR:-/tmp/.mc}"
FOLDER="${FOLDER:-/etc/k2}"

mkdir -p "$MC_CONFIG_DIR"
# The server may still be starting: an alias is only set once it answers.
until printf '%s\n%s\n' "$(cat "$FOLDER/root/access-key")" "$(cat "$FOLDER/root/secret-key")" |
  mc alias set k2 "$ENDPOINT"; do sleep 2; done
mc mb --ignore-existing --region "$REGION" "k2/$BUCKET"

for user in jobs audit query; do
  key=$(cat "$FOLDER/$user/access-key")
  printf '%s\n%s\n' "$key" "$(cat "$FOLDER/$user/secret-key")" | mc admin user add k2
  mc admin policy create k2 "k2-policy-$user" "$FOLDER/policies/$user.json"
  # Attaching it twice is an error.
  case "$(mc admin policy entities k2 --user "$key" --json)" in
    *"\"k2-policy-$user\""*) ;;
    *) mc admin policy attach k2 "k2-policy-$user" --user "$key" ;;
  esac
done
