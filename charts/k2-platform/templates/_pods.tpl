{{/* What every pod of this chart has. */}}

{{/* Reference of an image, by its digest if one is set: (list $ "operator"). */}}
{{- define "k2.image" -}}
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
{{- define "k2.pullSecrets" -}}
{{- $names := list -}}
{{- range concat .Values.imagePullSecrets (.Values.global.imagePullSecrets | default list) -}}
{{- if kindIs "string" . }}{{ $names = append $names . }}{{ else }}{{ $names = append $names .name }}{{ end -}}
{{- end -}}
{{- uniq $names | toJson -}}
{{- end }}

{{/*
Complete a pod's spec with what is common to all: (list $ "registry" component-values uid spec-as-YAML). A component's
own placement replaces the chart's, field by field; of variables of one name the more specific remains.
*/}}
{{- define "k2.spec" -}}
{{- $root := index . 0 -}}
{{- $own := index . 2 -}}
{{- $values := $root.Values -}}
{{- $spec := index . 4 | fromYaml -}}
{{- with get $spec "Error" }}{{ fail . }}{{ end -}}
{{- $ids := dict -}}
{{- if $values.fixedUserIds -}}
{{- $ids = dict "runAsUser" (index . 3) "runAsGroup" (index . 3) "fsGroup" (index . 3) "fsGroupChangePolicy" "OnRootMismatch" -}}
{{- end -}}
{{- with merge (dict) ($values.podSecurityContext | default dict) $ids }}{{ $_ := set $spec "securityContext" . }}{{ end -}}
{{- if not (hasKey $spec "automountServiceAccountToken") }}{{ $_ := set $spec "automountServiceAccountToken" false }}{{ end -}}
{{- /* Service links of a Service k2-registry would set K2_REGISTRY_... in every pod. */ -}}
{{- $_ := set $spec "enableServiceLinks" false -}}
{{- $secrets := list -}}
{{- range include "k2.pullSecrets" $root | fromJsonArray }}{{ $secrets = append $secrets (dict "name" .) }}{{ end -}}
{{- with $secrets }}{{ $_ := set $spec "imagePullSecrets" . }}{{ end -}}
{{- $placement := include "k2.placement" (list $root $own (include "k2.selector" (list $root (index . 1)))) | fromYaml -}}
{{- range $name, $value := $placement }}{{ $_ := set $spec $name $value }}{{ end -}}
{{- $first := list -}}
{{- $volumes := $values.extraVolumes -}}
{{- $mounts := $values.extraVolumeMounts -}}
{{- with $values.caConfigMap -}}
{{- $first = list (dict "name" "SSL_CERT_FILE" "value" "/etc/k2-ca/ca.crt") -}}
{{- $volumes = prepend $volumes (dict "name" "ca" "configMap" (dict "name" .)) -}}
{{- $mounts = prepend $mounts (dict "name" "ca" "mountPath" "/etc/k2-ca" "readOnly" true) -}}
{{- end -}}
{{- $extra := get $own "extraEnv" | default list -}}
{{- range $container := concat (get $spec "initContainers" | default list) $spec.containers -}}
{{- with $values.containerSecurityContext }}{{ $_ := set $container "securityContext" . }}{{ end -}}
{{- with include "k2.variables" (list $first (get $container "env" | default list) $values.extraEnv $extra) | fromYamlArray -}}
{{- $_ := set $container "env" . -}}
{{- end -}}
{{- with concat (get $container "volumeMounts" | default list) $mounts }}{{ $_ := set $container "volumeMounts" . }}{{ end -}}
{{- end -}}
{{- with concat (get $spec "volumes" | default list) $volumes }}{{ $_ := set $spec "volumes" . }}{{ end -}}
{{- toYaml $spec }}
{{- end }}

{{/* Some lists of variables as one, in which the last of a name remains. */}}
{{- define "k2.variables" -}}
{{- $last := dict -}}
{{- $names := list -}}
{{- range $list := . -}}
{{- range $list }}{{ $names = append $names .name }}{{ $_ := set $last .name . }}{{ end -}}
{{- end -}}
{{- $result := list -}}
{{- range $names | uniq }}{{ $result = append $result (get $last .) }}{{ end -}}
{{- toYaml $result }}
{{- end }}

{{/* Where a pod runs: (list $ component-values selector-labels-as-YAML). */}}
{{- define "k2.placement" -}}
{{- $root := index . 0 -}}
{{- $own := index . 1 -}}
{{- range $name := list "nodeSelector" "tolerations" "affinity" "priorityClassName" }}
{{- with get $own $name | default (get $root.Values $name) }}
{{ $name }}: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- with get $own "topologySpreadConstraints" | default $root.Values.topologySpreadConstraints }}
{{- $matched := dict "labelSelector" (dict "matchLabels" (index $ 2 | fromYaml)) }}
topologySpreadConstraints:
  {{- range . }}
  - {{- merge (dict) . $matched | toYaml | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}
