{{/* How the pods of this chart reach Kafka and identify themselves. */}}

{{/* Fails for values that contradict each other. */}}
{{- define "k2.kafka.check" -}}
{{- with .Values.kafka -}}
{{- if and (not .tls.enabled) (ne .authentication "none") -}}
{{- fail (printf "kafka.authentication is %s, which needs TLS: set kafka.tls.enabled to true, or kafka.authentication to none" .authentication) -}}
{{- end -}}
{{- if and (not .tls.enabled) .tls.existingSecret -}}
{{- fail "kafka.tls.existingSecret is set, but kafka.tls.enabled is false: set it to true, or remove the Secret" -}}
{{- end -}}
{{- if .enabled -}}
{{- if or .tls.existingSecret .users.audit.existingSecret .users.query.existingSecret .users.audit.username .users.query.username -}}
{{- fail "kafka.tls.existingSecret and kafka.users are for an existing Kafka: remove them, or set kafka.enabled to false; Strimzi makes the Secrets of k2-kafka" -}}
{{- end -}}
{{- else if .tls.enabled -}}
{{- if not .tls.existingSecret -}}
{{- fail "kafka.tls.existingSecret must name the Secret with the certificate authorities of the existing Kafka; without TLS, set kafka.tls.enabled to false and kafka.authentication to none" -}}
{{- end -}}
{{- range $component, $on := dict "audit" $.Values.audit.enabled "query" $.Values.query.enabled -}}
{{- if and $on (ne $.Values.kafka.authentication "none") (not (index $.Values.kafka.users $component).existingSecret) -}}
{{- fail (printf "kafka.users.%s.existingSecret must name the Secret of the user, because kafka.authentication is %s" $component $.Values.kafka.authentication) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "k2.kafka.port" -}}
{{- ternary 9093 9092 .Values.kafka.tls.enabled }}
{{- end }}

{{- define "k2.kafka.protocol" -}}
{{- if not .Values.kafka.tls.enabled -}} PLAINTEXT
{{- else if eq .Values.kafka.authentication "scram-sha-512" -}} SASL_SSL
{{- else -}} SSL {{- end -}}
{{- end }}

{{- define "k2.kafka.caSecret" -}}
{{- include "k2.kafka.check" . -}}
{{- ternary "k2-kafka-cluster-ca-cert" .Values.kafka.tls.existingSecret .Values.kafka.enabled }}
{{- end }}

{{/* Key of the certificate authorities in their Secret; Strimzi's is fixed. */}}
{{- define "k2.kafka.caKey" -}}
{{- ternary "ca.crt" .Values.kafka.tls.key .Values.kafka.enabled }}
{{- end }}

{{/* Secret of a component's user, (list $ "audit"): Strimzi names it after the KafkaUser. */}}
{{- define "k2.kafka.userSecret" -}}
{{- $kafka := (index . 0).Values.kafka -}}
{{- if ne $kafka.authentication "none" -}}
{{- if $kafka.enabled }}k2-{{ index . 1 }}{{ else }}{{ (index $kafka.users (index . 1)).existingSecret }}{{ end }}
{{- end -}}
{{- end }}

{{/* What of a user's Secret a client reads: environment variables by key. */}}
{{- define "k2.kafka.userFiles" -}}
{{- $keys := dict "passwordKey" "password" "certificateKey" "user.crt" "privateKeyKey" "user.key" -}}
{{- if not .Values.kafka.enabled }}{{ $keys = .Values.kafka.users }}{{ end -}}
{{- if eq .Values.kafka.authentication "scram-sha-512" }}
{{ $keys.passwordKey }}: K2_KAFKA_PASSWORD_FILE
{{- else if eq .Values.kafka.authentication "tls" }}
{{ $keys.certificateKey }}: K2_KAFKA_CERTIFICATE_FILE
{{ $keys.privateKeyKey }}: K2_KAFKA_KEY_FILE
{{- end }}
{{- end }}

{{/* Environment variables of a component: (list $ "audit"). One that does not connect to Kafka has an empty name. */}}
{{- define "k2.kafka.env" -}}
{{- $root := index . 0 -}}
- name: K2_KAFKA_BOOTSTRAP
  value: {{ include "k2.kafka.bootstrap" $root | quote }}
{{- if and (index . 1) $root.Values.kafka.tls.enabled }}
{{- $secret := include "k2.kafka.userSecret" . }}
- name: K2_KAFKA_SECURITY_PROTOCOL
  value: {{ include "k2.kafka.protocol" $root }}
- name: K2_KAFKA_CA_FILE
  value: /etc/k2-kafka/{{ include "k2.kafka.caSecret" $root }}/{{ include "k2.kafka.caKey" $root }}
{{- if eq $root.Values.kafka.authentication "scram-sha-512" }}
- name: K2_KAFKA_USERNAME
  value: {{ ternary "" (index $root.Values.kafka.users (index . 1)).username $root.Values.kafka.enabled | default $secret }}
{{- end }}
{{- range $key, $variable := include "k2.kafka.userFiles" $root | fromYaml }}
- name: {{ $variable }}
  value: /etc/k2-kafka/{{ $secret }}/{{ $key }}
{{- end }}
{{- end }}
{{- end }}

{{/* Names and keys of the Secrets that a component mounts: (list $ "audit"). */}}
{{- define "k2.kafka.secrets" -}}
{{- $root := index . 0 -}}
{{- if and (index . 1) $root.Values.kafka.tls.enabled }}
{{ include "k2.kafka.caSecret" $root }}: [{{ include "k2.kafka.caKey" $root }}]
{{- with include "k2.kafka.userSecret" . }}
{{ . }}: {{ include "k2.kafka.userFiles" $root | fromYaml | keys | sortAlpha | toJson }}
{{- end }}
{{- end }}
{{- end }}

{{- define "k2.kafka.mounts" -}}
{{- range $name, $keys := include "k2.kafka.secrets" . | fromYaml }}
- name: kafka-{{ sha256sum $name | trunc 8 }}
  mountPath: /etc/k2-kafka/{{ $name }}
  readOnly: true
{{- end }}
{{- end }}

{{/* Optional, so that a pod starts without them, says what it waits for, and continues when Strimzi has made them. */}}
{{- define "k2.kafka.volumes" -}}
{{- range $name, $keys := include "k2.kafka.secrets" . | fromYaml }}
- name: kafka-{{ sha256sum $name | trunc 8 }}
  secret:
    secretName: {{ $name }}
    optional: true
    defaultMode: 0440
    items:
      {{- range $keys }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
{{- end }}
{{- end }}

{{/* Secrets that Strimzi makes in Kafka's namespace and clients need in another: their keys by name, by namespace. */}}
{{- define "k2.kafka.copies" -}}
{{- $copies := dict -}}
{{- if and .Values.kafka.enabled .Values.kafka.tls.enabled -}}
{{- $own := concat (ternary (list "audit") list .Values.audit.enabled) (ternary (list "query") list .Values.query.enabled) -}}
{{- $feeds := .Values.feedNamespaces | default (list .Release.Namespace) -}}
{{- range $namespace := prepend $feeds .Release.Namespace | uniq -}}
{{- if ne $namespace (include "k2.kafka.namespace" $) -}}
{{- $components := concat (ternary $own list (eq $namespace $.Release.Namespace)) (ternary (list "ingest" "jobs") list (has $namespace $feeds)) -}}
{{- $secrets := dict -}}
{{- range $components -}}
{{- $secrets = merge $secrets (include "k2.kafka.secrets" (list $ .) | fromYaml) -}}
{{- end -}}
{{- $_ := set $copies $namespace $secrets -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{ toYaml $copies }}
{{- end }}
