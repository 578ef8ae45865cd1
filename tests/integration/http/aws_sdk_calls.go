// SPDX-License-Identifier: Apache-2.0

// Calls DescribeKey with Debian's AWS SDK for Go, version 2, with its defaults, for test_crowd.py.
//
//	aws_sdk_calls URL KEY NUMBER
//
// All calls begin at once, of one client. Prints an error a line, of those that failed.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

func main() {
	url, key := os.Args[1], os.Args[2]
	number, _ := strconv.Atoi(os.Args[3])
	client := kms.New(kms.Options{
		Region:           "eu-central-1",
		Credentials:      credentials.NewStaticCredentialsProvider("dummy", "dummy", ""),
		EndpointResolver: kms.EndpointResolverFromURL(url),
	})
	var calls sync.WaitGroup
	for i := 0; i < number; i++ {
		calls.Add(1)
		go func() {
			defer calls.Done()
			_, err := client.DescribeKey(context.Background(), &kms.DescribeKeyInput{KeyId: aws.String(key)})
			if err != nil {
				fmt.Println(err)
			}
		}()
	}
	calls.Wait()
}
