{{/* The pod of one of K2's jobs: (list $ "audit" (list "--json")). It runs the module of that name. */}}
{{- define "k2.jobs.pod" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $user := ternary "audit" "" (eq $name "audit") -}}
restartPolicy: Never
serviceAccountName: {{ $root.Values.jobs.serviceAccountName }}
containers:
  - name: {{ $name }}
    image: {{ include "k2.image" (list $root "jobs") }}
    imagePullPolicy: {{ $root.Values.imagePullPolicy }}
    command: [python, -m, k2.jobs.{{ $name }}]
    args:
      {{- range concat (list "--master=local[1]" (printf "--memory=%s" $root.Values.jobs.heap)) (index . 2) }}
      - {{ . | quote }}
      {{- end }}
    env:
      {{- include "k2.kafka.env" (list $root $user) | nindent 6 }}
      {{- include "k2.env" (list $root ($user | default "jobs")) | nindent 6 }}
    resources: {{- toYaml $root.Values.jobs.resources | nindent 6 }}
    volumeMounts:
      - name: tmp
        mountPath: /tmp
      - name: work
        mountPath: /opt/spark/work-dir
      {{- include "k2.kafka.mounts" (list $root $user) | nindent 6 }}
      {{- include "k2.catalog.mounts" (list $root $user) | nindent 6 }}
volumes:
  - name: tmp
    emptyDir: {}
  - name: work
    emptyDir: {}
  {{- include "k2.kafka.volumes" (list $root $user) | nindent 2 }}
  {{- include "k2.catalog.volumes" (list $root $user) | nindent 2 }}
{{- end }}

{{/* Environment variables with the services but Kafka, with the keys of a user of the store: (list $ "jobs"). */}}
{{- define "k2.env" -}}
{{- $component := index . 1 -}}
{{- with index . 0 -}}
- name: K2_REGISTRY_URL
  value: {{ include "k2.registry.url" . | quote }}
{{ include "k2.catalog.env" (list . $component) }}
- name: K2_WAREHOUSE
  value: {{ include "k2.s3.warehouse" . | quote }}
- name: K2_CHECKPOINTS
  value: {{ include "k2.s3.checkpoints" . | quote }}
- name: K2_S3_ENDPOINT
  value: {{ include "k2.s3.endpoint" . | quote }}
{{- if and .Values.caConfigMap (not (hasPrefix "http://" (include "k2.s3.endpoint" . | trim))) }}
- name: K2_S3_CA_FILE
  value: /etc/k2-ca/ca.crt
{{- end }}
- name: K2_S3_REGION
  value: {{ .Values.s3.region | quote }}
- name: K2_S3_PATH_STYLE
  value: {{ .Values.s3.pathStyle | quote }}
- name: AWS_REGION
  value: {{ .Values.s3.region | quote }}
{{- $keys := .Values.s3 }}
{{- with include "k2.s3.secret" (list . $component) }}
{{ include "k2.env.secret" (list "AWS_ACCESS_KEY_ID" . $keys.accessKeyKey) }}
{{ include "k2.env.secret" (list "AWS_SECRET_ACCESS_KEY" . $keys.secretKeyKey) }}
{{- end }}
{{- end }}
{{- end }}

{{/* An environment variable from a Secret: (list "NAME" "secret" "key"). */}}
{{- define "k2.env.secret" -}}
- name: {{ index . 0 }}
  valueFrom:
    secretKeyRef:
      name: {{ index . 1 }}
      key: {{ index . 2 }}
{{- end }}
