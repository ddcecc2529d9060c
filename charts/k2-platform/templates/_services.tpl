{{/* Addresses of the services, of this chart or existing ones. */}}

{{- define "k2.kafka.namespace" -}}
{{- .Values.kafka.namespace | default .Release.Namespace }}
{{- end }}

{{- define "k2.kafka.bootstrap" -}}
{{- if not .Values.kafka.enabled -}}
{{ .Values.kafka.bootstrap }}
{{- else if eq (include "k2.kafka.namespace" .) .Release.Namespace -}}
k2-kafka-kafka-bootstrap:{{ include "k2.kafka.port" . }}
{{- else -}}
k2-kafka-kafka-bootstrap.{{ include "k2.kafka.namespace" . }}:{{ include "k2.kafka.port" . }}
{{- end }}
{{- end }}

{{- define "k2.registry.url" -}}
{{- if .Values.registry.enabled -}} http://k2-registry:8080/apis/ccompat/v7 {{- else -}} {{ .Values.registry.url }} {{- end }}
{{- end }}

{{- define "k2.registry.databaseUri" -}}
{{- if .Values.postgres.enabled -}} postgresql://k2-postgres:5432/registry {{- else -}} {{ .Values.registry.databaseUri }} {{- end }}
{{- end }}

{{- define "k2.registry.secret" -}}
{{- .Values.registry.existingSecret | default "k2-registry" }}
{{- end }}

{{- define "k2.catalog.uri" -}}
{{- if .Values.postgres.enabled -}} postgresql://k2-postgres:5432/iceberg {{- else -}} {{ .Values.catalog.uri }} {{- end }}
{{- end }}

{{- define "k2.catalog.secret" -}}
{{- .Values.catalog.existingSecret | default "k2-catalog" }}
{{- end }}

{{- define "k2.postgres.secret" -}}
{{- .Values.postgres.existingSecret | default "k2-postgres" }}
{{- end }}

{{/* Empty: AWS. */}}
{{- define "k2.s3.endpoint" -}}
{{- if .Values.minio.enabled -}} http://k2-minio:9000 {{- else -}} {{ .Values.s3.endpoint }} {{- end }}
{{- end }}

{{/* Empty: the pods' workload identity. */}}
{{- define "k2.s3.secret" -}}
{{- .Values.s3.existingSecret | default (ternary "k2-s3" "" .Values.minio.enabled) }}
{{- end }}

{{- define "k2.s3.warehouse" -}}
{{- .Values.s3.warehouse | default (printf "s3://%s/warehouse" .Values.s3.bucket) }}
{{- end }}

{{- define "k2.s3.checkpoints" -}}
{{- .Values.s3.checkpoints | default (printf "s3a://%s/checkpoints" .Values.s3.bucket) }}
{{- end }}

{{- define "k2.query.secret" -}}
{{- .Values.query.keys.existingSecret | default "k2-query-keys" }}
{{- end }}

{{/* Non-empty if the query has more than one pod. */}}
{{- define "k2.query.several" -}}
{{- $least := ternary .Values.query.autoscaling.min .Values.query.replicas .Values.query.autoscaling.enabled -}}
{{- if gt (int $least) 1 }}yes{{ end }}
{{- end }}
