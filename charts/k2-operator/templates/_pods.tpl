{{/* What every pod of this chart has. */}}

{{/* Reference of an image, by its digest if one is set: (list $ "operator"). */}}
{{- define "k2-operator.image" -}}
{{- $root := index . 0 -}}
{{- $image := index $root.Values.images (index . 1) -}}
{{- $repository := $image.repository -}}
{{- with $root.Values.global.imageRegistry -}}
{{- $parts := splitList "/" $repository -}}
{{- if and (gt (len $parts) 1) (regexMatch "[.:]|^localhost$" (first $parts)) }}{{ $parts = rest $parts }}{{ end -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) (join "/" $parts) -}}
{{- end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository ($image.tag | default $root.Chart.AppVersion) -}}
{{- end -}}
{{- end }}

{{/* Names of the pull Secrets, as a JSON list. */}}
{{- define "k2-operator.pullSecrets" -}}
{{- $names := list -}}
{{- range concat .Values.imagePullSecrets (.Values.global.imagePullSecrets | default list) -}}
{{- if kindIs "string" . }}{{ $names = append $names . }}{{ else }}{{ $names = append $names .name }}{{ end -}}
{{- end -}}
{{- uniq $names | toJson -}}
{{- end }}

{{/* What the spec of every pod of this chart has. */}}
{{- define "k2-operator.pod" -}}
{{- $ids := ternary (dict "runAsUser" 10001 "runAsGroup" 10001 "fsGroup" 10001) dict .Values.fixedUserIds -}}
{{- with merge (dict) (.Values.podSecurityContext | default dict) $ids -}}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "k2-operator.pullSecrets" . | fromJsonArray }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- include "k2-operator.placement" . }}
{{- end }}

{{/* Where a pod runs. */}}
{{- define "k2-operator.placement" -}}
{{- range $name := list "nodeSelector" "tolerations" "affinity" "priorityClassName" }}
{{- with get $.Values $name }}
{{ $name }}: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- with .Values.topologySpreadConstraints }}
{{- $matched := dict "labelSelector" (dict "matchLabels" (include "k2-operator.selector" $ | fromYaml)) }}
topologySpreadConstraints:
  {{- range . }}
  - {{- merge (dict) . $matched | toYaml | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* The values of pods as settings of the feeds' pods. */}}
{{- define "k2-operator.podSettings" -}}
{{- $result := dict "podSecurityContext" (.Values.podSecurityContext | default dict) "containerSecurityContext" (.Values.containerSecurityContext | default dict) -}}
{{- range $name := list "podLabels" "podAnnotations" "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "priorityClassName" "extraVolumes" "extraVolumeMounts" "caConfigMap" -}}
{{- with get $.Values $name }}{{ $_ := set $result $name . }}{{ end -}}
{{- end -}}
{{- if not .Values.fixedUserIds }}{{ $_ := set $result "fixedUserIds" false }}{{ end -}}
{{- $variables := list -}}
{{- range .Values.extraEnv -}}
{{- if not (hasPrefix "K2_OPERATOR_" .name) }}{{ $variables = append $variables . }}{{ end -}}
{{- end -}}
{{- with $variables }}{{ $_ := set $result "extraEnv" . }}{{ end -}}
{{- with include "k2-operator.pullSecrets" . | fromJsonArray }}{{ $_ := set $result "imagePullSecrets" . }}{{ end -}}
{{- toYaml $result }}
{{- end }}
