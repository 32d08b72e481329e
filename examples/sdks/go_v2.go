// One entry of a URL map, with alibabacloud-oss-go-sdk-v2.
package main

import (
	"context"
	"encoding/json"
	"os"
	"time"

	"github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss"
	"github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss/credentials"
)

func main() {
	provider := credentials.NewEnvironmentVariableCredentialsProvider()
	client := oss.NewClient(oss.LoadDefaultConfig().WithCredentialsProvider(provider).WithRegion("cn-hangzhou"))
	request := &oss.PutObjectRequest{
		Bucket:      oss.Ptr("examplebucket"),
		Key:         oss.Ptr("in/a b.csv"),
		ContentType: oss.Ptr("text/csv"),
	}
	signed, err := client.Presign(context.TODO(), request, oss.PresignExpires(time.Hour))
	if err != nil {
		panic(err)
	}
	json.NewEncoder(os.Stdout).Encode(map[string]any{
		"path":           *request.Bucket + "/" + *request.Key,
		"method":         signed.Method,
		"url":            signed.URL,
		"expiration":     signed.Expiration,
		"signed_headers": signed.SignedHeaders,
	})
}
