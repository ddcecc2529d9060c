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
{{- with (index . 0).Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Selector labels of a component's pods. They are immutable. */}}
{{- define "k2.selector" -}}
app.kubernetes.io/name: k2-platform
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* An image: (list $ "jobs"). */}}
{{- define "k2.image" -}}
{{- $root := index . 0 -}}
{{- $image := index $root.Values.images (index . 1) -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- end }}
{{- end }}

{{/* Pod settings common to all components: (list $ uid). */}}
{{- define "k2.pod" -}}
{{- $root := index . 0 -}}
automountServiceAccountToken: false
# Service links of a Service k2-registry would set K2_REGISTRY_... in every pod.
enableServiceLinks: false
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ index . 1 }}
  runAsGroup: {{ index . 1 }}
  fsGroup: {{ index . 1 }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{/* A container's security context under the restricted profile. */}}
{{- define "k2.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* Node selector, tolerations and affinity, from the values of a component. */}}
{{- define "k2.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
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
