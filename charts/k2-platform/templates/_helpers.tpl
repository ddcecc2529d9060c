{{/* Labels of one component: (list $ "postgres"). */}}
{{- define "k2.labels" -}}
{{- $root := index . 0 -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
{{ include "k2.stableLabels" . }}
{{- end }}

{{/*
Labels of a component's custom resources of other operators, without the chart's version: those operators copy labels
to pods, and Strimzi would restart the brokers.
*/}}
{{- define "k2.stableLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/part-of: k2
{{ include "k2.selector" . }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels of a component's pods, without the version: an upgrade must not restart unchanged pods. */}}
{{- define "k2.podLabels" -}}
app.kubernetes.io/part-of: k2
{{ include "k2.selector" . }}
{{- with merge (dict) (index . 0).Values.podLabels (index . 0).Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Selector labels of a component's pods. They are immutable. */}}
{{- define "k2.selector" -}}
app.kubernetes.io/name: k2-platform
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Size and class of a PersistentVolumeClaim, from the values of a component. */}}
{{- define "k2.claim" -}}
accessModes: [ReadWriteOnce]
{{- with .class }}
storageClassName: {{ . }}
{{- end }}
resources:
  requests:
    storage: {{ .size }}
{{- end }}

{{/* The value of a Secret's key: the existing one, or a new random one. (list $ "k2-s3" "secret-key") */}}
{{- define "k2.kept" -}}
{{- $found := lookup "v1" "Secret" (index . 0).Release.Namespace (index . 1) -}}
{{- $old := get (default (dict) (get (default (dict) $found) "data")) (index . 2) -}}
{{- default (randAlphaNum 32 | b64enc) $old -}}
{{- end }}
