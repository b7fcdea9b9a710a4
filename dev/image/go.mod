// The program in the images that the real node of the development cluster runs. It needs nothing but Go itself.
module slipway.dev/dev/image

go 1.26.0
