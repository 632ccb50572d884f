{{/* (dict "root" $ "name" Deployment "wanted" number "set" the value's name): how many there are to be.

     Where nothing scales, as many as the values say. Where something does, that is its to say, and nothing is said here:
     unless nobody else holds the number yet, for then the API server would take 1 for what is not said. A number that
     someone else set is not fought over: Helm would find the conflict half-way through the upgrade. */}}
{{- define "cloudpose.replicas" -}}
{{- $root := .root -}}
{{- $mode := $root.Values.autoscaling.mode -}}
{{- $live := lookup "apps/v1" "Deployment" $root.Release.Namespace .name -}}
{{- if not $live -}}
{{- if eq $mode "none" -}}
replicas: {{ .wanted }}
{{- end -}}
{{- else -}}
{{- $number := int $live.spec.replicas -}}
{{- $clientSide := false -}}
{{- $ours := false -}}
{{- $others := list -}}
{{- range $live.metadata.managedFields -}}
{{- $holds := hasKey (dig "f:spec" dict (.fieldsV1 | default dict)) "f:replicas" -}}
{{- if eq .manager "helm" -}}
{{- $clientSide = or $clientSide (eq .operation "Update") -}}
{{- $ours = or $ours $holds -}}
{{- else if $holds -}}
{{- $others = append $others .manager -}}
{{- end -}}
{{- end -}}
{{- $hpa := lookup "autoscaling/v2" "HorizontalPodAutoscaler" $root.Release.Namespace .name -}}
{{- $kedas := lookup "autoscaling/v2" "HorizontalPodAutoscaler" $root.Release.Namespace (printf "keda-hpa-%s" .name) -}}
{{- if ne $mode "none" -}}
{{- if or $clientSide (and $ours (not $others)) -}}
replicas: {{ $number }}
{{- end -}}
{{- else if or $hpa $kedas -}}
{{- /* It goes with this upgrade, and the number stays. */ -}}
replicas: {{ $number }}
{{- else if and (not $clientSide) $others (ne $number (int .wanted)) -}}
{{- fail (printf "%s has %d replicas, set by %s, and %s says %v. To keep them: --set %s=%d. To have %v: kubectl -n %s scale deployment/%s --replicas=%v, then this upgrade again." .name $number (join ", " $others) .set .wanted .set $number .wanted $root.Release.Namespace .name .wanted) -}}
{{- else -}}
replicas: {{ .wanted }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The pools that are served before the overflow pools, as a regular expression; empty if there are none. */}}
{{- define "cloudpose.firstPools" -}}
{{- $first := list -}}
{{- range $pool, $of := .Values.infer.pools -}}
{{- if and $of $of.enabled (not $of.overflow) -}}{{- $first = append $first $pool -}}{{- end -}}
{{- end -}}
{{- join "|" $first -}}
{{- end -}}

{{/* The rule that mode hpa scales on: frames waiting and in hand at a stage, less what the workers of the pools before
     take, of those that are there. Every gateway tells of the same lanes, each a moment apart from the others. */}}
{{- define "cloudpose.poolFrames" -}}
{{- $of := printf "stage=%q, %s" .stage .of -}}
- record: cloudpose_pool_frames
  expr: >-
    clamp_min(
      sum(max by (kind) (cloudpose_lane_frames{ {{- $of -}} } + cloudpose_lane_in_hand_frames{ {{- $of -}} }))
      - {{ if .after }}(sum(cloudpose_worker_slots{ {{- $of }}, pool=~{{ .after | quote -}} }) or vector(0)){{ else }}0{{ end }}, 0)
  labels: { namespace: {{ .root.Release.Namespace }}, release: {{ .root.Release.Name }}, pool: {{ .pool }} }
{{- end -}}

{{/* What gateways follow besides the processor: `{name: {query, each}}`. Bytes are the kubelet's to tell. */}}
{{- define "cloudpose.gatewayLoad" -}}
{{- $of := .Values.gateway.autoscaling -}}
{{- if $of.sessionsPerReplica }}
sessions:
  query: sum(cloudpose_sessions{namespace={{ .Release.Namespace | quote }}, release={{ .Release.Name | quote }}})
  each: {{ int $of.sessionsPerReplica }}
{{- end }}
{{- if $of.megabytesPerReplica }}
{{- $pods := printf "namespace=%q, pod=~%q" .Release.Namespace (printf "%s-gateway-.*" (include "cloudpose.fullname" .)) }}
megabytes:
  query: (sum(rate(container_network_receive_bytes_total{ {{- $pods -}} }[1m])) + sum(rate(container_network_transmit_bytes_total{ {{- $pods -}} }[1m]))) / 1e6
  each: {{ int $of.megabytesPerReplica }}
{{- end }}
{{- end -}}

{{/* KEDA refuses to scale what a HorizontalPodAutoscaler scales, and Helm removes that last. (dict "root" $ "name" Deployment) */}}
{{- define "cloudpose.hpaIsGone" -}}
{{- if lookup "autoscaling/v2" "HorizontalPodAutoscaler" .root.Release.Namespace .name -}}
{{- fail (printf "HorizontalPodAutoscaler %s is still there, and KEDA takes nothing that one scales. Upgrade with --set autoscaling.mode=none first (replicas stay as they are), then with keda." .name) -}}
{{- end -}}
{{- end -}}
