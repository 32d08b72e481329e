// One entry of a URL map, with aliyun-oss-go-sdk.
package main

import (
	"encoding/json"
	"os"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	provider, err := oss.NewEnvironmentVariableCredentialsProvider()
	check(err)
	client, err := oss.New("https://oss-cn-hangzhou.aliyuncs.com", "", "",
		oss.SetCredentialsProvider(&provider), oss.Region("cn-hangzhou"), oss.AuthVersion(oss.AuthV4))
	check(err)
	bucket, err := client.Bucket("examplebucket")
	check(err)
	key := "in/a b.csv"
	url, err := bucket.SignURL(key, oss.HTTPPut, 3600, oss.ContentType("text/csv"), oss.ForbidOverWrite(true))
	check(err)
	check(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"path":    "examplebucket/" + key,
		"url":     url,
		"headers": map[string]string{"Content-Type": "text/csv", "x-oss-forbid-overwrite": "true"},
	}))
}
