{{/* NetworkPolicyPeers: the pods of feeds, and some components of this chart. */}}

{{/* Pods of feeds: (list $ true) for all, (list $ false) for all but the ingest. */}}
{{- define "k2.peers.feeds" -}}
{{- $root := index . 0 -}}
- podSelector: {{- include "k2.feedPods" (index . 1) | nindent 4 }}
  {{- with $root.Values.feedNamespaces }}
  namespaceSelector: {{- include "k2.peers.namespaces" . | nindent 4 }}
  {{- end }}
{{- end }}

{{- define "k2.peers.namespaces" -}}
matchExpressions:
  - {key: kubernetes.io/metadata.name, operator: In, values: {{ toJson . }}}
{{- end }}

{{- define "k2.feedPods" -}}
matchExpressions:
  - {key: k2.marketdata.io/feed, operator: Exists}
  {{- if not . }}
  - {key: app.kubernetes.io/component, operator: NotIn, values: [ingest]}
  {{- end }}
{{- end }}

{{/* Pods of this release: (list $ "audit" "test"). */}}
{{- define "k2.peers.own" -}}
- podSelector:
    matchLabels:
      app.kubernetes.io/name: k2-platform
      app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
    matchExpressions:
      - {key: app.kubernetes.io/component, operator: In, values: {{ rest . | toJson }}}
{{- end }}

{{/* Clients of Kafka. Strimzi's own policy admits the peers of the listener, so both use this list. */}}
{{- define "k2.peers.kafka" -}}
{{- $away := ne (include "k2.kafka.namespace" .) .Release.Namespace -}}
- podSelector: {{- include "k2.feedPods" true | nindent 4 }}
  {{- if or $away .Values.feedNamespaces }}
  namespaceSelector: {{- include "k2.peers.namespaces" (.Values.feedNamespaces | default (list .Release.Namespace)) | nindent 4 }}
  {{- end }}
{{ include "k2.peers.own" (list . "audit" "query" "test") }}
  {{- if $away }}
  namespaceSelector: {{- include "k2.peers.namespaces" (list .Release.Namespace) | nindent 4 }}
  {{- end }}
{{- with .Values.networkPolicy.clients }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Any address but link-local ones, where clouds serve credentials. Some plugins do not count pods among addresses. */}}
{{- define "k2.peers.anywhere" -}}
- ipBlock: {cidr: 0.0.0.0/0, except: [169.254.0.0/16]}
{{- if .Values.networkPolicy.ipv6 }}
- ipBlock: {cidr: "::/0", except: ["fe80::/10", "fd00:ec2::254/128"]}
{{- end }}
- namespaceSelector: {}
{{- end }}

{{/* Ports of the services that are not of this chart, as YAML. */}}
{{- define "k2.externalPorts" -}}
{{- $ports := list -}}
{{- if not .Values.kafka.enabled -}}
{{- range splitList "," .Values.kafka.bootstrap }}{{ $ports = append $ports (regexFind "[0-9]+$" . | int) }}{{ end -}}
{{- end -}}
{{- if not .Values.registry.enabled -}}{{ $ports = append $ports (include "k2.port" (list .Values.registry.url) | int) }}{{- end -}}
{{- if not (or (include "k2.catalog.own" .) (include "k2.catalog.inStore" .)) -}}{{ $ports = append $ports (include "k2.port" (list (include "k2.catalog.uri" .)) | int) }}{{- end -}}
{{- with .Values.catalog.oauth2Uri }}{{ $ports = append $ports (include "k2.port" (list .) | int) }}{{ end -}}
{{- if not .Values.postgres.enabled -}}
{{- if and .Values.registry.enabled (eq .Values.registry.storage.type "postgresql") -}}{{ $ports = append $ports (include "k2.port" (list .Values.registry.databaseUri) | int) }}{{- end -}}
{{- end -}}
{{- if eq .Values.store.type "external" -}}
{{- $ports = append $ports (include "k2.port" (list (.Values.s3.endpoint | default "https://s3.amazonaws.com")) | int) -}}
{{- end -}}
{{- range concat .Values.extraEnv (.Values.query.extraEnv | default list) (.Values.audit.extraEnv | default list) -}}
{{- if and (has .name (list "OTEL_EXPORTER_OTLP_ENDPOINT" "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")) .value -}}
{{- $ports = append $ports (include "k2.port" (list .value) | int) -}}
{{- end -}}
{{- end -}}
{{ $ports | uniq | toYaml }}
{{- end }}

{{/* The port of a URL. */}}
{{- define "k2.port" -}}
{{- $url := urlParse (index . 0) -}}
{{- $given := regexFind ":[0-9]+$" $url.host | trimPrefix ":" -}}
{{- $given | default (get (dict "http" "80" "https" "443" "postgresql" "5432") $url.scheme) -}}
{{- end }}

{{/* Non-empty if pods use their workload identity for an external store. */}}
{{- define "k2.s3.identity" -}}
{{- if eq .Values.store.type "external" -}}
{{- range list "jobs" "audit" "query" }}{{ if not (include "k2.s3.secret" (list $ .)) }}yes{{ end }}{{ end -}}
{{- end -}}
{{- end }}
