{{/* The Iceberg catalog: PostgreSQL, or a server with Iceberg's REST protocol. */}}

{{/* Fails for values that contradict each other. */}}
{{- define "k2.catalog.check" -}}
{{- $http := hasPrefix "http" .Values.catalog.uri -}}
{{- if eq .Values.catalog.type "rest" -}}
{{- if not (or $http (include "k2.catalog.inStore" .)) -}}
{{- fail "catalog.type is rest: set catalog.uri to the URL of the REST catalog, http:// or https://, or store.type to seaweedfs, which has one" -}}
{{- end -}}
{{- if include "k2.catalog.inStore" . -}}
{{- if or .Values.catalog.existingSecret .Values.catalog.tokenKey .Values.catalog.oauth2Uri .Values.catalog.scope .Values.catalog.warehouse .Values.catalog.users.query.existingSecret -}}
{{- fail "the catalog is SeaweedFS's own, whose clients have the keys of s3.users: remove catalog.existingSecret, tokenKey, oauth2Uri, scope, warehouse and users, or set catalog.uri to another catalog" -}}
{{- end -}}
{{- if or .Values.s3.warehouse .Values.s3.checkpoints -}}
{{- fail "the catalog is SeaweedFS's own, which puts tables in s3.bucket, and checkpoints need another bucket: remove s3.warehouse and s3.checkpoints, or set catalog.uri to another catalog" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.catalog.tokenKey (not .Values.catalog.existingSecret) -}}
{{- fail "catalog.tokenKey is set: set catalog.existingSecret to the Secret with the token" -}}
{{- end -}}
{{- else -}}
{{- if $http -}}
{{- fail "catalog.uri is that of a REST catalog, but catalog.type is jdbc: set it to rest, or catalog.uri to a PostgreSQL database" -}}
{{- end -}}
{{- if or .Values.catalog.tokenKey .Values.catalog.oauth2Uri .Values.catalog.scope .Values.catalog.warehouse -}}
{{- fail "catalog.tokenKey, oauth2Uri, scope and warehouse are for a REST catalog: set catalog.type to rest, or remove them" -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Non-empty if the catalog is that of this chart's SeaweedFS. */}}
{{- define "k2.catalog.inStore" -}}
{{- if and (eq .Values.catalog.type "rest") (eq .Values.store.type "seaweedfs") (not .Values.catalog.uri) }}yes{{ end }}
{{- end }}

{{/* Non-empty if the catalog is in this chart's PostgreSQL. */}}
{{- define "k2.catalog.own" -}}
{{- if and .Values.postgres.enabled (eq .Values.catalog.type "jdbc") }}yes{{ end }}
{{- end }}

{{- define "k2.catalog.uri" -}}
{{- include "k2.catalog.check" . -}}
{{- if include "k2.catalog.own" . -}} postgresql://k2-postgres:5432/iceberg
{{- else if include "k2.catalog.inStore" . -}} http://k2-seaweedfs:8181
{{- else -}} {{ .Values.catalog.uri }} {{- end }}
{{- end }}

{{/* Secret with the catalog's user, the OAuth2 client, or the token. Empty: a REST catalog without authentication. */}}
{{- define "k2.catalog.secret" -}}
{{- if include "k2.catalog.inStore" . -}} {{ include "k2.s3.secret" (list . "jobs") }}
{{- else -}} {{ .Values.catalog.existingSecret | default (ternary "k2-catalog" "" (eq .Values.catalog.type "jdbc")) }} {{- end }}
{{- end }}

{{/* Secret with the user that the query service reads the catalog as. In a catalog of others, the catalog's by default. */}}
{{- define "k2.catalog.query.secret" -}}
{{- $own := and (include "k2.catalog.own" .) .Values.query.enabled | empty | not -}}
{{- .Values.catalog.users.query.existingSecret | default (ternary "k2-catalog-query" (include "k2.catalog.secret" .) $own) }}
{{- end }}

{{/* The Secret of a component: (list $ "query"). */}}
{{- define "k2.catalog.secretOf" -}}
{{- if include "k2.catalog.inStore" (index . 0) -}} {{ include "k2.s3.secret" (list (index . 0) (index . 1 | default "jobs")) }}
{{- else -}} {{ include (ternary "k2.catalog.query.secret" "k2.catalog.secret" (eq (index . 1) "query")) (index . 0) }} {{- end }}
{{- end }}

{{/* Keys of user and password in the Secrets of the catalog, as YAML; SeaweedFS's are those of the store. */}}
{{- define "k2.catalog.keys" -}}
{{- if include "k2.catalog.inStore" . -}}
{{ dict "username" .Values.s3.accessKeyKey "password" .Values.s3.secretKeyKey | toJson }}
{{- else -}}
{{ dict "username" .Values.catalog.usernameKey "password" .Values.catalog.passwordKey | toJson }}
{{- end }}
{{- end }}

{{/* Environment variables with the catalog: (list $ "query"). */}}
{{- define "k2.catalog.env" -}}
{{- $secret := include "k2.catalog.secretOf" . -}}
{{- $keys := include "k2.catalog.keys" (index . 0) | fromJson -}}
{{- with (index . 0).Values.catalog -}}
- name: K2_CATALOG_TYPE
  value: {{ .type }}
- name: K2_CATALOG_URI
  value: {{ include "k2.catalog.uri" (index $ 0) | quote }}
{{- if and (index $ 0).Values.caConfigMap (hasPrefix "https://" .uri) }}
- name: K2_CATALOG_CA_FILE
  value: /etc/k2-ca/ca.crt
{{- end }}
{{- range $name, $value := dict "WAREHOUSE" .warehouse "OAUTH2_URI" .oauth2Uri "SCOPE" .scope }}
{{- if $value }}
- name: K2_CATALOG_{{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
{{- if .tokenKey }}
- name: K2_CATALOG_TOKEN_FILE
  value: /etc/k2-catalog/{{ .tokenKey }}
{{- else if $secret }}
{{ include "k2.env.secret" (list "K2_CATALOG_USER" $secret $keys.username) }}
{{ include "k2.env.secret" (list "K2_CATALOG_PASSWORD" $secret $keys.password) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The volume with the token of a component, and its mount: (list $ "query"). Empty without one. */}}
{{- define "k2.catalog.volumes" -}}
{{- $secret := include "k2.catalog.secretOf" . -}}
{{- with (index . 0).Values.catalog.tokenKey -}}
- name: catalog
  secret:
    secretName: {{ $secret }}
    defaultMode: 0440
    items:
      - {key: {{ . }}, path: {{ . }}}
{{- end }}
{{- end }}

{{- define "k2.catalog.mounts" -}}
{{- if (index . 0).Values.catalog.tokenKey -}}
- name: catalog
  mountPath: /etc/k2-catalog
  readOnly: true
{{- end }}
{{- end }}
