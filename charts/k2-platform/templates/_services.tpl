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

{{/* Non-empty if the registry is in this chart's PostgreSQL. */}}
{{- define "k2.registry.inPostgres" -}}
{{- if and .Values.postgres.enabled .Values.registry.enabled (eq .Values.registry.storage.type "postgresql") }}yes{{ end }}
{{- end }}

{{/* Fails for values that contradict each other. */}}
{{- define "k2.registry.check" -}}
{{- if eq .Values.registry.storage.type "file" -}}
{{- if or .Values.registry.databaseUri .Values.registry.existingSecret -}}
{{- fail "registry.databaseUri and existingSecret are for PostgreSQL, but registry.storage.type is file: set it to postgresql, or remove them" -}}
{{- end -}}
{{- if gt (int .Values.registry.replicas) 1 -}}
{{- fail "registry.replicas is more than 1, but registry.storage.type is file, which one process alone can open: set it to postgresql, or one replica" -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "k2.registry.secret" -}}
{{- .Values.registry.existingSecret | default "k2-registry" }}
{{- end }}


{{- define "k2.postgres.secret" -}}
{{- .Values.postgres.existingSecret | default "k2-postgres" }}
{{- end }}

{{/* Empty: AWS. */}}
{{- define "k2.s3.endpoint" -}}
{{- get (dict "minio" "http://k2-minio:9000" "seaweedfs" "http://k2-seaweedfs:8333") .Values.store.type | default .Values.s3.endpoint }}
{{- end }}

{{/* Secret with the keys of a user of the store, (list $ "query"). Empty: the pods' workload identity. */}}
{{- define "k2.s3.secret" -}}
{{- $values := (index . 0).Values -}}
{{- $own := ternary "" (printf "k2-s3-%s" (index . 1)) (eq $values.store.type "external") -}}
{{- (index $values.s3.users (index . 1)).existingSecret | default $own }}
{{- end }}

{{/* Secret with MinIO's root keys; SeaweedFS has none. */}}
{{- define "k2.store.root" -}}
{{- .Values.s3.existingSecret | default "k2-s3" }}
{{- end }}

{{/* Fails for values that contradict each other. */}}
{{- define "k2.store.check" -}}
{{- if and (eq .Values.store.type "external") .Values.s3.existingSecret -}}
{{- fail "s3.existingSecret has the root keys of the chart's store, but store.type is external: name the Secrets of jobs, audit and query in s3.users" -}}
{{- end -}}
{{- if and (ne .Values.store.type "external") .Values.s3.endpoint -}}
{{- fail (printf "s3.endpoint is set, but store.type is %s: set it to external, or remove the endpoint" .Values.store.type) -}}
{{- end -}}
{{- if eq .Values.store.type "seaweedfs" -}}
{{- if .Values.s3.existingSecret -}}
{{- fail "s3.existingSecret has MinIO's root keys, but store.type is seaweedfs, which has none: remove it" -}}
{{- end -}}
{{- if not .Values.networkPolicy.enabled -}}
{{- fail "store.type is seaweedfs, whose inner ports ask for no keys, and only a NetworkPolicy closes them: set networkPolicy.enabled to true, or choose another store" -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "k2.s3.warehouse" -}}
{{- $own := printf "s3://%s%s" .Values.s3.bucket (ternary "" "/warehouse" (include "k2.catalog.inStore" . | empty | not)) -}}
{{- .Values.s3.warehouse | default $own }}
{{- end }}

{{- define "k2.s3.checkpoints" -}}
{{- $own := printf "s3a://%s%s" .Values.s3.bucket (ternary "-checkpoints/feeds" "/checkpoints" (include "k2.catalog.inStore" . | empty | not)) -}}
{{- .Values.s3.checkpoints | default $own }}
{{- end }}

{{- define "k2.query.secret" -}}
{{- .Values.query.keys.existingSecret | default "k2-query-keys" }}
{{- end }}

{{/* Non-empty if the query has more than one pod. */}}
{{- define "k2.query.several" -}}
{{- $least := ternary .Values.query.autoscaling.min .Values.query.replicas .Values.query.autoscaling.enabled -}}
{{- if gt (int $least) 1 }}yes{{ end }}
{{- end }}
