{{/* Name of the objects in the release's namespace. */}}
{{- define "k2-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Name of cluster-scoped objects; it has the namespace, so that releases of one name do not collide. */}}
{{- define "k2-operator.clusterName" -}}
{{- printf "%s-%s" (include "k2-operator.fullname" .) .Release.Namespace -}}
{{- end -}}

{{/* Selector labels of the operator's pod. They are immutable. */}}
{{- define "k2-operator.selector" -}}
app.kubernetes.io/name: k2-operator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "k2-operator.labels" -}}
{{ include "k2-operator.stableLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{- end -}}

{{/* Labels of custom resources of other operators: without the chart's version, which they would take for a change. */}}
{{- define "k2-operator.stableLabels" -}}
{{ include "k2-operator.selector" . }}
app.kubernetes.io/part-of: k2
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "k2-operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "k2-operator.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "k2-operator.sparkServiceAccount" -}}
{{- .Values.settings.sparkServiceAccount | default "k2-spark" -}}
{{- end -}}

{{/* The feed namespaces as YAML; parse it with `fromYamlArray`. */}}
{{- define "k2-operator.feedNamespaces" -}}
{{- .Values.feedNamespaces | default (list .Release.Namespace) | uniq | toYaml -}}
{{- end -}}

{{/* The settings file: the value `settings`, the images, and the values of all pods. */}}
{{- define "k2-operator.settings" -}}
{{- with .Values.settings -}}
{{- $protocol := .kafkaSecurityProtocol | default "PLAINTEXT" -}}
{{- if ne $protocol "PLAINTEXT" -}}
{{- if not .kafkaCaSecret -}}
{{- fail (printf "settings.kafkaSecurityProtocol is %s: set settings.kafkaCaSecret to the Secret with the certificate authorities of the brokers" $protocol) -}}
{{- end -}}
{{- if and (eq $protocol "SASL_SSL") (not (and .kafkaIngestSecret .kafkaJobsSecret)) -}}
{{- fail "settings.kafkaSecurityProtocol is SASL_SSL: set settings.kafkaIngestSecret and settings.kafkaJobsSecret to the Secrets with the users' passwords" -}}
{{- end -}}
{{- if ne (empty .kafkaIngestSecret) (empty .kafkaJobsSecret) -}}
{{- fail "set both settings.kafkaIngestSecret and settings.kafkaJobsSecret, or neither: one of the two clients would have no certificate" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .Values.settings -}}
{{- $http := hasPrefix "http" .catalogUri -}}
{{- $type := .catalogType | default "jdbc" -}}
{{- if ne $http (eq $type "rest") -}}
{{- fail (printf "settings.catalogUri is %s, but settings.catalogType is %s: PostgreSQL is jdbc, an http or https URL is rest" .catalogUri $type) -}}
{{- end -}}
{{- if and (eq $type "jdbc") (or .catalogTokenKey .catalogOauth2Uri .catalogScope .catalogWarehouse) -}}
{{- fail "settings.catalogTokenKey, catalogOauth2Uri, catalogScope and catalogWarehouse are for a REST catalog: set settings.catalogType to rest, or remove them" -}}
{{- end -}}
{{- if and .catalogTokenKey (not .catalogSecret) -}}
{{- fail "settings.catalogTokenKey is set: set settings.catalogSecret to the Secret with the token" -}}
{{- end -}}
{{- end -}}
{{- $images := dict "ingestImage" (include "k2-operator.image" (list . "ingest")) -}}
{{- $images = set $images "jobsImage" (include "k2-operator.image" (list . "jobs")) -}}
{{- $settings := merge (dict) $images .Values.settings -}}
{{- /* As a whole: what a setting does not name is not added to it. */ -}}
{{- range $name, $value := include "k2-operator.podSettings" . | fromYaml -}}
{{- if not (hasKey $settings $name) }}{{ $_ := set $settings $name $value }}{{ end -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end -}}

{{/* Names of the Secrets whose changes restart the feeds' pods, as a JSON list: those that pods read at their start. */}}
{{- define "k2-operator.inputSecrets" -}}
{{- $settings := include "k2-operator.settings" . | fromYaml -}}
{{- $names := list $settings.catalogSecret $settings.s3Secret -}}
{{- range $settings.extraEnv -}}
{{- $names = append $names (dig "valueFrom" "secretKeyRef" "name" "" .) -}}
{{- end -}}
{{- range $settings.extraVolumes -}}
{{- $names = append $names (dig "secret" "secretName" "" .) -}}
{{- range dig "projected" "sources" list . -}}
{{- $names = append $names (dig "secret" "name" "" .) -}}
{{- end -}}
{{- end -}}
{{- compact $names | uniq | sortAlpha | toJson -}}
{{- end -}}
