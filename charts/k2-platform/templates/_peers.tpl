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
